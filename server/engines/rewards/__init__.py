"""Reward models and functions, and what every reward goes through: batches, time-outs, checks of what it returns."""
