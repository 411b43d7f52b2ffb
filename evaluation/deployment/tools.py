"""Programs of the machine that the checks of a deployment need."""

import shutil


def need(commands: tuple[str, ...], packages: str) -> None:
    """SystemExit, with what to do, where a command is not on PATH; `packages` are Debian's that bring them."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise SystemExit(f"not on PATH: {', '.join(missing)}. On Debian or Ubuntu: apt-get install {packages}")
