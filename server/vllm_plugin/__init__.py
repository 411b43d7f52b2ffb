"""Decant inside an unmodified `vllm serve`: it answers the requests that ask for a strategy, and vLLM all others."""
