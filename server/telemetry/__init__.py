"""Ids, logs and traces of requests."""
