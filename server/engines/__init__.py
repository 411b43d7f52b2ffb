"""Policies and rewards that run: on vLLM, as plain functions, over HTTP, and an exact toy."""
