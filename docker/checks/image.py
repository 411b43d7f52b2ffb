"""Build the images without a Docker engine, and send requests to a server in the CPU image.

    python -m docker.checks.image [cpu] [gpu] [--keep DIR]

This takes root, buildah, debootstrap and 15 GB of disk. `--keep` keeps the images and the server's volume in DIR, which
makes the next run quicker. `cpu_image` and `gpu_image` say what each check shows and what it cannot show.
"""

import argparse
import os
import tempfile
from pathlib import Path

from docker.checks import cpu_image, gpu_image
from docker.checks.tools import need

CHECKS = {"cpu": cpu_image.check, "gpu": gpu_image.check}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", nargs="*", help="cpu, gpu; both by default")
    parser.add_argument("--keep", type=Path, help="a folder for images and volumes, kept for the next run")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.images if name not in CHECKS]
    if unknown:
        parser.error(f"unknown image {unknown[0]}; known: {', '.join(CHECKS)}")
    need(("buildah", "debootstrap"), "buildah debootstrap")
    if os.geteuid() != 0:
        raise SystemExit("only root may make chroots: run this as root, on a machine of your own")
    with tempfile.TemporaryDirectory(prefix="decant-images-") as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.images or CHECKS:
            CHECKS[name](folder)


if __name__ == "__main__":
    main()
