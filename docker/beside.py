"""Guards a base image's own packages while Decant is installed beside them. Run by docker/Dockerfile.

python3 beside.py own           prints, as pip constraints, every package that the image must keep
python3 beside.py check OWN     exits with 1 where the environment has another one, or pip finds new conflicts
"""

import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

# What vLLM was compiled against, and what speaks to the GPU: a second one of these is a broken or a doubled image.
OWN = re.compile(
    r"(torch|vllm|triton|nvidia|cuda|cupy|flashinfer|xformers|xgrammar|transformers|tokenizers)([-_]|\w*$)"
)


def owned() -> dict[str, Distribution]:
    """The packages to keep, by name; of two the one that Python imports."""
    found: dict[str, Distribution] = {}
    for package in distributions():
        name = package.metadata["Name"].lower().replace("_", "-")
        if OWN.match(name):
            found.setdefault(name, package)
    return found


def check(constraints: list[str]) -> list[str]:
    """What is wrong with this environment, given what the image had."""
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
    """What `pip check` says of an interpreter's packages."""
    said = subprocess.run([python, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    return {line for line in said.stdout.splitlines() if " has requirement " in line or " requires " in line}


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
