"""Segments that end at the entropy of the next token: found where the logits are, so that no doubtful token is drawn.

A logits processor computes the entropy of each asking row. Where it is at the threshold, the row may only draw a token
that is reserved for this, and that stops the request: the segment is what was drawn before it.
"""
