"""The running of requests: who may work, the work itself, and what is measured of it."""
