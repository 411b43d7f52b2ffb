"""What may import what: strategies know neither server nor engine, and the engine stays in its folders."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"vllm", "torch", "transformers"}
MAY_IMPORT_VLLM = ("server/engines", "server/demo", "training", "evaluation")


def imports(file: Path) -> Iterator[str]:
    """The top-level packages a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            yield (node.module or "").split(".")[0]


def sources(*folders: str) -> list[Path]:
    found = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def loaded_by(module: str) -> set[str]:
    """The top-level packages in a fresh interpreter after importing one module."""
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_strategies_load_neither_server_nor_engine() -> None:
    loaded = loaded_by("decoders")
    assert "decoders" in loaded
    assert not loaded & (HEAVY | {"server", "fastapi", "numpy"})


def test_the_toy_needs_no_engine() -> None:
    assert not loaded_by("server.engines.toy") & HEAVY


@pytest.mark.parametrize("file", sources("decoders"), ids=lambda file: file.name)
def test_strategies_import_protocols_only(file: Path) -> None:
    assert set(imports(file)) <= {"decoders", "pydantic", "re2", *sys.stdlib_module_names}


def test_only_engines_and_what_measures_them_import_vllm() -> None:
    users = [file.relative_to(ROOT).as_posix() for file in sources("decoders", "server") if "vllm" in imports(file)]
    assert [file for file in users if not file.startswith(MAY_IMPORT_VLLM)] == []


@pytest.mark.parametrize(
    ("line", "package"),
    [("import vllm.config as c", "vllm"), ("def f():\n    from vllm import LLM", "vllm"), ("import os", "os")],
)
def test_imports_are_found_wherever_they_stand(line: str, package: str, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(line, encoding="utf-8")
    assert list(imports(file)) == [package]
