"""Shared by several tests: models to serve, laws to compare with, policies and rewards that count or fail."""
