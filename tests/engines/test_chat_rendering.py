"""What the settings say of chats: parsers and templates that are not there, and the flags of `vllm serve`."""

from pathlib import Path

import pytest

from server.engines.chat_rendering import check_parsers, rendering_arguments
from server.settings import PolicySettings, SettingsError


def test_parsers_and_templates_that_are_not_there_are_told_at_once() -> None:
    policy = PolicySettings(model="m", tool_call_parser="herms", reasoning_parser="qwen", chat_template="none.jinja")
    with pytest.raises(SettingsError) as caught:
        check_parsers(policy)
    tools, reasoning, template = caught.value.problems
    assert tools.startswith("policy.tool_call_parser: vLLM has no parser 'herms'. Parsers: ")
    assert "hermes" in tools
    assert reasoning.startswith("policy.reasoning_parser: vLLM has no parser 'qwen'. Parsers: ")
    assert "qwen3" in reasoning
    assert template.startswith("policy.chat_template: ")
    assert "none.jinja" in template


def test_those_that_are_there_pass(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages }}")
    check_parsers(PolicySettings(model="m"))
    for template in (str(file), "{% for m in messages %}{{ m.content }}{% endfor %}"):
        check_parsers(
            PolicySettings(model="m", tool_call_parser="hermes", reasoning_parser="qwen3", chat_template=template)
        )


def test_the_flags_of_a_server_that_decant_works_in() -> None:
    assert rendering_arguments(PolicySettings(model="m", reasoning_parser="qwen3")) == {}  # the engine's own
    policy = PolicySettings(
        model="m", tool_call_parser="hermes", chat_template="t.jinja", trust_request_chat_template=True
    )
    assert rendering_arguments(policy) == {
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
        "chat_template": "t.jinja",
        "trust_request_chat_template": True,
    }
