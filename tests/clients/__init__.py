"""Real clients of the API, each a small program in its own environment."""
