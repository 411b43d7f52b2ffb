"""The sentiment reward: a low-rank adapter for a truncated policy, trained on movie reviews."""
