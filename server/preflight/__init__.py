"""What can be known to fail before any engine starts, all of it at once, a line each.

An engine takes a minute to load, so whatever is cheap to check is checked first: models that do not exist, functions
that cannot be imported, files, keys, the port. `server.loading.prepare` checks what only vLLM knows.
"""

from server.preflight.checks import problems

__all__ = ["problems"]
