"""Blocks that end at the entropy of the next token, found where the logits are, so that no uncertain token is drawn.

A logits processor computes the entropy of each row whose request sets a threshold. Where the entropy is at the
threshold, the row may only draw a token that is reserved as a signal and stops the request: the block is what was drawn
before it.
"""
