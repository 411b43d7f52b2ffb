"""docs/fields.md has every field of OpenAI's and vLLM's requests, and what becomes of it."""

from tests.docs import field_table


def test_every_field_of_openais_and_vllms_requests_is_honoured_or_known() -> None:
    assert field_table.unknown() == []


def test_the_table_is_that_of_today() -> None:
    page = field_table.PAGE.read_text(encoding="utf-8")
    assert page == field_table.page_with_table(page), "run: python -m tests.docs.field_table"
