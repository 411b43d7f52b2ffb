"""Names of an older release in `decoding`: accepted for one release, with a warning in the answer."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

RENAMED: dict[str, dict[str, str]] = {
    "cascade": {
        "accept_from": "accept_start",
        "segment_least": "min_segment_tokens",
        "segment_tokens": "max_segment_tokens",
    },
}


def with_todays_names(body: Any) -> tuple[Any, tuple[str, ...]]:
    """Return a request's body in today's names, and a warning for each older one."""
    if not isinstance(body, Mapping) or not isinstance(body.get("decoding"), Mapping):
        return body, ()
    decoding, warnings = _renamed(body["decoding"], "decoding")
    return {**body, "decoding": decoding}, tuple(warnings)


def _renamed(decoding: Mapping[str, Any], path: str) -> tuple[Json, list[str]]:
    """Return one strategy's parameters in today's names, and warnings that give the path of each older name.

    Where a request has both names of a parameter, the older one stays, and is refused as unknown.
    """
    names = RENAMED.get(str(decoding.get("strategy")), {})
    sent, warnings = dict(decoding), []
    for old, new in names.items():
        if old in sent and new not in sent:
            sent[new] = sent.pop(old)
            warnings.append(f"{path}.{old} is now called {new}; the old name will be refused in the next release.")
    if sent.get("strategy") == "best_of_n" and type(sent.get("rollouts")) is int and sent["rollouts"] == 0:
        sent["rollouts"] = "candidates"
        warnings.append(f"{path}.rollouts: 0 is now written 'candidates'; 0 will be refused in the next release.")
    if isinstance(sent.get("proposal"), Mapping):
        sent["proposal"], inner = _renamed(sent["proposal"], f"{path}.proposal")
        warnings += inner
    return sent, warnings
