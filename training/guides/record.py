"""The record beside an adapter, `metrics.json`: its training, and the table of its measurements."""

import json
from pathlib import Path
from typing import Any

FILE = "metrics.json"


def read_record(directory: Path) -> dict[str, Any]:
    """Read the record in a guide's directory."""
    record: dict[str, Any] = json.loads((directory / FILE).read_text(encoding="utf-8"))
    return record


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Write the record as indented JSON, with one line for each row of the table."""
    entries = [f"{json.dumps(key)}: {_value(key, value)}" for key, value in record.items()]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE).write_text("{\n " + ",\n ".join(entries) + "\n}\n", encoding="utf-8")


def _value(key: str, value: Any) -> str:
    if key != "rows":
        return json.dumps(value)
    return "[\n  " + ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n ]"
