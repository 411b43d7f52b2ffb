"""For health checks: `python -m server.healthcheck` exits with 0 if the server in this container is ready."""

import os
import sys
from urllib.request import urlopen

TIMEOUT = 4.0  # seconds


def ready() -> str | None:
    """Return None if /readyz answers 200, or else an error message."""
    port = os.environ.get("DECANT_SERVER__PORT") or "8000"
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=TIMEOUT):
            return None
    except OSError as error:
        return f"not ready: {error}"


if __name__ == "__main__":
    sys.exit(ready())
