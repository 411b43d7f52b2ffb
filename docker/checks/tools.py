"""Commands of the machine that the checks need."""

import shutil


def need(commands: tuple[str, ...], packages: str) -> None:
    """Raise SystemExit, with the Debian `packages` to install, if one of the `commands` is not on PATH."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise SystemExit(f"not on PATH: {', '.join(missing)}. On Debian or Ubuntu: apt-get install {packages}")
