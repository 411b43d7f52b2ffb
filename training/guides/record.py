"""What is kept beside an adapter: `metrics.json`, how it was made and the table of what it gives."""

import json
from pathlib import Path
from typing import Any

FILE = "metrics.json"


def read(directory: Path) -> dict[str, Any]:
    """The record in a guide's directory."""
    record: dict[str, Any] = json.loads((directory / FILE).read_text(encoding="utf-8"))
    return record


def write(directory: Path, record: dict[str, Any]) -> None:
    """Indented, but one line for each of the table's rows, as they are compared."""
    entries = [f"{json.dumps(key)}: {_value(key, value)}" for key, value in record.items()]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE).write_text("{\n " + ",\n ".join(entries) + "\n}\n", encoding="utf-8")


def _value(key: str, value: Any) -> str:
    if key != "rows":
        return json.dumps(value)
    return "[\n  " + ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n ]"
