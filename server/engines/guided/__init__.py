"""The guided policy inside vLLM: the policy and its guides as one model, their logits mixed row by row."""
