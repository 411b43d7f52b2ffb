"""Measurements: speed as ratios within one run."""
