"""Checks of a deployment: its images without Docker, its dashboard and its alerts.

`docker` itself is a namespace without `__init__.py`, so that it never hides the PyPI package of that name.
"""
