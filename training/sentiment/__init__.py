"""The sentiment reward: movie reviews in, a low-rank adapter for a truncated policy out."""
