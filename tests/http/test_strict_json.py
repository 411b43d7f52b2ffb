"""JSON within limits: each limit, its neighbours, and keys that are given twice."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders.errors import InvalidRequest
from server.http import strict_json
from server.http.strict_json import read_json
from server.settings import BodyLimits

LIMITS = BodyLimits()
TEXTS = st.text(st.sampled_from('ab"\\[]{},: é\n'), max_size=12)
VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def holds(value: object) -> tuple[int, int, int]:
    """Return the lists and objects of a value, its fields, and its commas and brackets."""
    if not isinstance(value, dict | list):
        return 0, 0, 0
    inner = [holds(one) for one in (value.values() if isinstance(value, dict) else value)]
    opened, fields, marks = (sum(column) for column in zip(*inner, strict=True)) if inner else (0, 0, 0)
    own = len(value) if isinstance(value, dict) else 0
    return opened + 1, fields + own, marks + max(len(value), 1)


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def sent(text: bytes, **limits: int) -> object:
    return read_json(text, LIMITS.model_copy(update=limits))


def refusal(text: bytes, **limits: int) -> str:
    with pytest.raises(InvalidRequest) as refused:
        sent(text, **limits)
    return str(refused.value)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.booleans(), st.integers(1, 9))
def test_what_stands_in_strings_is_not_counted(value: object, ascii: bool, piece: int) -> None:  # noqa: A002
    text = json.dumps(value, ensure_ascii=ascii).encode()
    opened, fields, marks = holds(value)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(strict_json, "PIECE", piece)  # strings and escapes lie across the pieces
        exact = {"max_objects": opened, "max_fields": fields, "max_values": marks}
        assert sent(text, **exact) == value
        for name, count in exact.items():
            if count:
                assert f"over {count - 1} " in refusal(text, **{**exact, name: count - 1})


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '{"a": {"b": [{"c": 1, "d": 2, "c": 3}]}}', r'{"a": 1, "\u0061": 2}']
)
def test_a_key_that_is_there_twice_is_refused(text: str) -> None:
    assert "duplicate key" in refusal(text.encode())


def test_depth_is_counted_in_lists_and_objects_alike() -> None:
    assert sent(deep(64)) == json.loads(deep(64))
    assert refusal(deep(65)) == "The body has over 64 levels of lists and objects, this server's limit."
    assert "over 4 levels" in refusal(b'{"a": [{"b": [{}]}]}', max_depth=4)
    assert sent(b'{"a": [{"b": []}], "c": "[[[[[["}', max_depth=4)


def test_the_fields_of_one_object_are_counted() -> None:
    assert sent(b'{"a": {"b": 1}, "c": ":::"}', max_object_fields=2)
    assert "over 2 fields" in refusal(b'[{"a": {"b": 1, "c": 1, "d": 1}}]', max_object_fields=2)


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"[1,]", b"\xff", b'"\\ud800"', b"9" * 5000, b"{}x"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    assert refusal(text).startswith("The body is not JSON: ")
