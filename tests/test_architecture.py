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
ROOMS = (  # a file imports from its own room and from those above it, never from one below
    "decoders",
    "server/__init__.py",
    "server/healthcheck.py",
    "server/installed.py",
    "server/errors.py",
    "server/settings",
    "server/telemetry",
    "server/engines",
    "server/calibration",
    "server/loading.py",
    "server/warmup.py",
    "server/runtime",
    "server/http",
    "server/demo",
    "server/preflight",
    "server/vllm_plugin",
    "server/starting.py",
    "server/commands.py",
    "server/key_commands.py",
    "server/cli.py",
)
HTTP = {"fastapi", "starlette", "uvicorn"}


def modules(file: Path) -> Iterator[str]:
    """The modules a file imports, wherever in it: `from a import b` may be of `a.b`, and is of `a`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if source(name)]
            yield from found if len(found) == len(inner) else [node.module or "", *found]


def imports(file: Path) -> Iterator[str]:
    """The top-level packages a file imports, wherever in it."""
    return (name.split(".")[0] for name in modules(file))


def source(module: str) -> Path | None:
    """The file of a module of ours, or None."""
    path = ROOT / module.replace(".", "/")
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def room(file: Path) -> int:
    """The place of a file's room among `ROOMS`."""
    name = file.relative_to(ROOT).as_posix()
    [found] = [i for i, room in enumerate(ROOMS) if name == room or name.startswith(f"{room}/")]
    return found


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
    assert not loaded_by("server.engines.toy_text") & HEAVY


def test_the_kit_for_authors_needs_neither_server_nor_engine_nor_pytest() -> None:
    loaded = loaded_by("decoders.testing")
    assert "decoders" in loaded
    assert not loaded & (HEAVY | {"server", "tests", "fastapi", "numpy", "pytest", "_pytest"})


@pytest.mark.parametrize("file", sources("decoders"), ids=lambda file: file.name)
def test_strategies_import_protocols_only(file: Path) -> None:
    assert set(imports(file)) <= {"decoders", "pydantic", "re2", *sys.stdlib_module_names}


def test_only_engines_and_what_measures_them_import_vllm() -> None:
    users = [file.relative_to(ROOT).as_posix() for file in sources("decoders", "server") if "vllm" in imports(file)]
    assert [file for file in users if not file.startswith(MAY_IMPORT_VLLM)] == []


@pytest.mark.parametrize("file", sources("decoders", "server"), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_room_imports_from_one_below_it(file: Path) -> None:
    imported = [own for name in modules(file) if (own := source(name)) is not None]
    assert [own.relative_to(ROOT).as_posix() for own in imported if room(own) > room(file)] == []


def test_only_the_folders_of_http_know_http() -> None:
    users = [file.relative_to(ROOT).as_posix() for file in sources("decoders", "server") if HTTP & set(imports(file))]
    assert users
    assert [file for file in users if not file.startswith(("server/http/", "server/vllm_plugin/"))] == []


def test_modules_are_found_by_either_form_of_import(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        "if TYPE_CHECKING:\n    from server import loading\nfrom server.http.auth import read\nimport os.path"
    )
    assert sorted(modules(file)) == ["os.path", "server.http.auth", "server.loading"]
    assert source("server.http.routes") == ROOT / "server/http/routes/__init__.py"
    assert source("os.path") is None


@pytest.mark.parametrize(
    ("line", "package"),
    [("import vllm.config as c", "vllm"), ("def f():\n    from vllm import LLM", "vllm"), ("import os", "os")],
)
def test_imports_are_found_wherever_they_stand(line: str, package: str, tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(line, encoding="utf-8")
    assert list(imports(file)) == [package]
