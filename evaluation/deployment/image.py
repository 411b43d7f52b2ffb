"""Build the images without a Docker engine, and ask a server in the CPU image.

    python -m evaluation.deployment.image [cpu] [gpu] [--keep DIR]

This takes root, buildah and debootstrap, and 15 GB of disk. `--keep` holds on to the images and the servers' volumes in
DIR, for a quicker next run. What each part shows, and what it cannot, is said in `cpu_image` and `gpu_image`.
"""

import argparse
import os
import tempfile
from pathlib import Path

from evaluation.deployment import cpu_image, gpu_image
from evaluation.deployment.tools import need

CHECKS = {"cpu": cpu_image.check, "gpu": gpu_image.check}


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the images without Docker, and ask a server in the CPU image.")
    parser.add_argument("images", nargs="*", help="cpu, gpu; both by default")
    parser.add_argument("--keep", type=Path, help="a folder for images and volumes, kept for the next run")
    given = parser.parse_args()
    unknown = [name for name in given.images if name not in CHECKS]
    if unknown:
        parser.error(f"there is no image {unknown[0]}: {', '.join(CHECKS)}")
    need(("buildah", "debootstrap"), "buildah debootstrap")
    if os.geteuid() != 0:
        raise SystemExit("this makes chroots, which root alone may: run it as root, on a machine of your own")
    with tempfile.TemporaryDirectory(prefix="decant-images-") as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.images or CHECKS:
            CHECKS[name](folder)


if __name__ == "__main__":
    main()
