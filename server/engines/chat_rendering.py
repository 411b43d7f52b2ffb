"""vLLM's renderer of chats, with its parsers of tool calls and of reasoning, as the settings name them."""

from typing import Any

from vllm.exceptions import VLLMClientError
from vllm.parser import ParserManager
from vllm.renderers.chat_utils import load_chat_template
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.v1.engine.async_llm import AsyncLLM

from server.settings import PolicySettings, SettingsError


def check_parsers(policy: PolicySettings) -> None:
    """Raise `SettingsError` for a parser that vLLM does not have, or a chat template that is not there."""
    problems = []
    for field, find, known in (
        ("tool_call_parser", _tool_parser, _tool_parsers),
        ("reasoning_parser", ParserManager.get_reasoning_parser, _reasoning_parsers),
    ):
        name = getattr(policy, field)
        try:
            find(name)
        except TypeError:  # what vLLM raises for a name that it does not know
            problems.append(f"policy.{field}: vLLM has no parser '{name}'. Parsers: {', '.join(known())}")
    try:
        load_chat_template(policy.chat_template)
    except (ValueError, VLLMClientError) as error:
        problems.append(f"policy.chat_template: {' '.join(str(error).split())}")
    if problems:
        raise SettingsError(*problems)


def rendering_arguments(policy: PolicySettings) -> dict[str, Any]:
    """Return the arguments of `vllm serve` for what the policy's section says of chats; its engine has the others."""
    made: dict[str, Any] = {}
    if policy.tool_call_parser is not None:
        made |= {"enable_auto_tool_choice": True, "tool_call_parser": policy.tool_call_parser}
    if policy.chat_template is not None:
        made["chat_template"] = policy.chat_template
    if policy.trust_request_chat_template:
        made["trust_request_chat_template"] = True
    return made


def online_renderer(engine: AsyncLLM, policy: PolicySettings) -> OnlineRenderer:
    """Return how the policy's chats are rendered. Raises `SettingsError` where a parser cannot read its tokenizer."""
    try:
        return OnlineRenderer(
            engine.model_config,
            engine.renderer,
            request_logger=None,
            chat_template=load_chat_template(policy.chat_template),
            chat_template_content_format="auto",
            trust_request_chat_template=policy.trust_request_chat_template,
            enable_auto_tools=policy.tool_call_parser is not None,
            tool_parser=policy.tool_call_parser,
            reasoning_parser=policy.reasoning_parser,
        )
    except TypeError as error:
        raise SettingsError(f"policy: {error}") from error


def _tool_parser(name: str | None) -> object:
    return ParserManager.get_tool_parser(name, enable_auto_tools=True)


def _tool_parsers() -> list[str]:
    from vllm.tool_parsers import ToolParserManager

    return sorted(ToolParserManager.list_registered())


def _reasoning_parsers() -> list[str]:
    from vllm.reasoning import ReasoningParserManager

    return sorted(ReasoningParserManager.list_registered())
