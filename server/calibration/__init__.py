"""The calibration store, and filling it ahead of requests."""
