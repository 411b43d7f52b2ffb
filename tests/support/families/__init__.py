"""Tiny random twins of reward model families, and each family's own way of scoring by Transformers."""
