"""The table of docs/fields.md, made from the clients' and the server's types: `python -m tests.docs.field_table`.

Every field of OpenAI's two request types, as the installed `openai` has them, and of vLLM's, as the installed vLLM has
them, is honoured here, or known with the values that ask for nothing.
"""

from collections.abc import Iterator
from typing import Any, get_type_hints

from openai.types import completion_create_params as completions
from openai.types.chat import completion_create_params as chat

from server.http.openapi import document
from server.http.schemas import noops
from server.http.schemas.chat import ChatBody
from server.http.schemas.common import Body
from server.http.schemas.completions import CompletionsBody
from tests.docs.api_tables import values_of
from tests.docs.blocks import ROOT

PAGE = ROOT / "docs" / "fields.md"
MARK = "<!-- fields -->\n"
OURS: dict[str, type[Body]] = {"chat": ChatBody, "completions": CompletionsBody}
KNOWN = {"chat": noops.CHAT, "completions": noops.BODY}


def asked() -> dict[str, dict[str, set[str]]]:
    """Return the fields of each body, by whose they are."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    def fields(*types: Any) -> set[str]:
        return {name for one in types for name in get_type_hints(one)}

    return {
        "OpenAI": {
            "chat": fields(chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming),
            "completions": fields(
                completions.CompletionCreateParamsNonStreaming, completions.CompletionCreateParamsStreaming
            ),
        },
        "vLLM": {"chat": {*ChatCompletionRequest.model_fields}, "completions": {*CompletionRequest.model_fields}},
    }


def table() -> str:
    """Return the table: a row for each field, those that are honoured first."""
    rows = sorted(_rows(), key=lambda row: (row[2] != "honoured", row[0].strip("`")))
    lines = [("field", "of", "here", ""), ("---",) * 4, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def unknown() -> list[str]:
    """Return the fields that are neither honoured nor known."""
    return [
        f"{owner}'s {body}: {name}"
        for owner, bodies in asked().items()
        for body, names in bodies.items()
        for name in sorted(names - OURS[body].model_fields.keys() - KNOWN[body].keys())
    ]


def _rows() -> Iterator[tuple[str, str, str, str]]:
    theirs = asked()
    for name in sorted({name for bodies in theirs.values() for names in bodies.values() for name in names}):
        owners = [_owner(owner, bodies, name) for owner, bodies in theirs.items()]
        here = [body for body in OURS if name in OURS[body].model_fields]
        refused = [body for body, names in KNOWN.items() if name in names and body not in here]
        used = [body for body in refused if any(name in bodies[body] for bodies in theirs.values())]
        whose = ", ".join(filter(None, owners))
        if here:
            where = "" if not used else f"only in {' and '.join(here)}"
            yield f"`{name}`", whose, "honoured", where
        else:
            noop = KNOWN[refused[0]][name]
            shown = noop.schema.get("description") or values_of(noop.schema, null=True)
            yield f"`{name}`", whose, f"accepted: {shown}", f"other values: {noop.reason}".replace("|", "\\|")


def _owner(owner: str, bodies: dict[str, set[str]], name: str) -> str:
    found = [body for body, names in bodies.items() if name in names]
    return "" if not found else owner if len(found) == 2 else f"{owner} ({found[0]})"


def page_with_table(page: str) -> str:
    """Return the page with the table of today."""
    head, mark, _ = page.partition(MARK)
    assert mark, "the page has lost the comment that the table follows"
    return head + mark + table()


if __name__ == "__main__":
    document()  # all schemas are complete
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
