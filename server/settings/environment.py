"""Settings from the environment: DECANT_SERVER__PORT=9000 is server.port, two underscores for each step down.

A variable that is empty counts as not set: a compose file sets variables that its user left out. A variable that names
no setting is a mistake, since it would be ignored silently.

pydantic-settings would only replace the parsing of values here. It passes over variables that name no setting, stops at
the first value that is no JSON, and does not say which variable a wrong value comes from; the settings file is not its
matter either. So what makes most of this package, reporting every mistake at once and where it is, would remain.
"""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from server.settings.schema_names import Path, SchemaNames

PREFIX = "DECANT_"
ELSEWHERE = frozenset({"DECANT_CACHE", "DECANT_CONFIG"})  # read by server.demo.world and server.vllm_plugin
# Kubernetes sets variables for each Service, here for one named decant-gpu: DECANT_GPU_SERVICE_HOST=10.0.0.1, and more.
SERVICE = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
SERVICE_URL = re.compile(r"(tcp|udp|sctp)://\S+:\d+")  # DECANT_PORT=tcp://10.0.0.1:8000


def variable(path: Path) -> str:
    """Return the name of the variable that sets the value at `path`."""
    return PREFIX + "__".join(path).upper()


def read_variables(names: SchemaNames, environment: Mapping[str, str]) -> tuple[dict[Path, Any], list[str]]:
    """Return the values that the environment sets, by path and with shorter paths first, and a line per mistake."""
    values: dict[Path, Any] = {}
    problems = []
    for name, text in sorted(environment.items()):
        if not _is_setting(name, text):
            continue
        path = tuple(name[len(PREFIX) :].lower().split("__"))
        if not names.forms(path):
            close = get_close_matches(name.upper(), map(variable, names.declared()), 1, 0.8)
            problems.append(f"{name}: there is no such setting{f'; did you mean {close[0]}?' if close else ''}")
            continue
        try:
            values[path] = _value(names, path, text)
        except ValueError as error:
            problems.append(f"{name}: {'.'.join(path)} is given as JSON, and this is none: {error}")
    return dict(sorted(values.items(), key=lambda item: len(item[0]))), problems


def _value(names: SchemaNames, path: Path, text: str) -> Any:
    """Return the value that `text` stands for: JSON where the schema has more than a text. Raises ValueError."""
    if not names.may_be_nested(path) and not names.is_free(path):
        return text
    try:
        return json.loads(text)
    except ValueError:
        if names.is_free(path) or names.may_be_text(path):
            return text
        raise


def _is_setting(name: str, text: str) -> bool:
    if not name.upper().startswith(PREFIX) or not text or name.upper() in ELSEWHERE:
        return False
    return not (SERVICE.fullmatch(name) or (name.endswith("_PORT") and SERVICE_URL.fullmatch(text)))
