"""Running requests: checks, admission, the work itself, draining, and metrics. It knows no HTTP."""
