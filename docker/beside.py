"""Protect a base image's own packages while Decant is installed beside them; docker/Dockerfile runs this.

python3 beside.py own           print every package that the image must keep, as pip constraints
python3 beside.py check OWN     exit with 1 if the environment has another version of one, or if pip finds new conflicts
"""

import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

# Packages that vLLM was compiled against or that access the GPU: a second copy breaks the image or doubles its size.
OWN = re.compile(
    r"(torch|vllm|triton|nvidia|cuda|cupy|flashinfer|xformers|xgrammar|transformers|tokenizers)([-_]|\w*$)"
)


def owned() -> dict[str, Distribution]:
    """Return the packages to keep, by name; of two copies, the one that Python imports."""
    found: dict[str, Distribution] = {}
    for package in distributions():
        name = package.metadata["Name"].lower().replace("_", "-")
        if OWN.match(name):
            found.setdefault(name, package)
    return found


def check(constraints: list[str]) -> list[str]:
    """Return the faults of this environment; `constraints` are the lines that `own` printed in the image."""
    packages = owned()
    now = {f"{name}=={package.version}" for name, package in packages.items()}
    wrong = [
        f"{line} was the image's own, and is no longer what is imported" for line in constraints if line not in now
    ]
    inside = Path(sys.prefix)
    wrong += [
        f"a second {name} was installed in {inside}"
        for name, package in packages.items()
        if inside in Path(str(package.locate_file(""))).parents
    ]
    return wrong


def conflicts(python: str) -> set[str]:
    """Return the conflicts that `pip check` finds among an interpreter's packages."""
    done = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    return {line for line in done.stdout.splitlines() if " has requirement " in line or " requires " in line}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["own"]:
            sys.stdout.writelines(f"{name}=={package.version}\n" for name, package in sorted(owned().items()))
        case ["check", path]:
            image = str(Path(sys.base_prefix, "bin", "python3"))
            wrong = check(Path(path).read_text().split()) + sorted(conflicts(sys.executable) - conflicts(image))
            sys.exit("\n".join(wrong) or None)
        case _:
            sys.exit(__doc__)
