"""The policy's tokenizer, and its chats as `vllm serve` renders them, with vLLM's parsers for the answers."""

from copy import deepcopy
from typing import Any, get_args, get_type_hints

from pydantic import ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.renderers.chat_utils import make_tool_call_id
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import StructuredOutputsParams

from decoders.core import Grammar, Prompt, Sampling, Tokens
from decoders.errors import InvalidRequest
from server.engines.sampling_params import structured_outputs
from server.engines.text.chat_parser import ChatParser, ParserSource
from server.engines.text.continued import as_rendered, to_render
from server.engines.text.model_text import ModelText
from server.engines.text.protocol import Chat

KINDS = get_args(get_type_hints(Grammar)["kind"])


class PolicyText(ModelText):
    """A policy's tokenizer. A chat with tools or options goes to vLLM's renderer, and so does every chat whose answers
    are to be parsed.

    A plain chat has the same tokens either way; the tokenizer alone renders it in a fifth of the time.
    """

    def __init__(
        self,
        online: OnlineRenderer,
        max_model_len: int,
        vocab_size: int,
        max_logprobs: int,
        *,
        reasons: bool,
        priorities: bool,
    ) -> None:
        """Args:
        online: How vLLM renders the policy's chats, and parses its answers.
        reasons: Whether the engine knows where reasoning ends.
        priorities: Whether the engine serves requests by their priority.
        """
        super().__init__(
            online.renderer.get_tokenizer(),
            max_model_len,
            vocab_size,
            max_logprobs,
            online.chat_template,
            online.default_chat_template_kwargs,
        )
        self._online = online
        self.priorities = priorities
        self._reasons = reasons

    def check(self, sampling: Sampling) -> None:
        super().check(sampling)
        if sampling.thinking_token_budget is not None and not self._reasons:
            message = "thinking_token_budget: this server tells no reasoning apart; policy.reasoning_parser would."
            raise InvalidRequest(message, "sampling.thinking_token_budget")

    async def chat(self, chat: Chat) -> Prompt:
        if not chat.options and self._online.parser is None and self.has_chat_template:
            return await super().chat(chat)
        shown = to_render(chat)
        request = _request(shown)
        tokens, text = await self._rendered(request)
        parser = None if self._online.parser is None else self._parser(chat, request, tokens)
        return Prompt(tokens, text, as_rendered(chat, text), chat.turn == "continued", chat.tools, parser)

    async def _rendered(self, request: ChatCompletionRequest) -> tuple[Tokens, str]:
        """Return a chat as tokens and text; the request is changed to what its choice of tools asks for."""
        field = "tools" if request.tools else "messages"
        try:
            answer = await self._online.render_chat(request)
        except Exception as error:  # a template raises whatever its author chose
            parameter = getattr(error, "parameter", None)
            message = f"The chat template refuses these messages: {error}"
            raise InvalidRequest(message, parameter or "messages") from error
        if not isinstance(answer, tuple):
            refused: Any = answer.error
            field = "chat_template" if request.chat_template else field
            hint = " With `decant serve` it is policy.tool_call_parser in the settings." if request.tools else ""
            raise InvalidRequest(f"{refused.message.rstrip('.')}.{hint}", refused.param or field)
        [rendered] = answer[1]
        tokens = tuple(rendered["prompt_token_ids"])
        return tokens, rendered.get("prompt") or self.decode(tokens)

    def _parser(self, chat: Chat, request: ChatCompletionRequest, prompt: Tokens) -> ChatParser:
        kind, config, tokenizer = self._online.parser, self._online.model_config, self.tokenizer
        values = self._online.effective_chat_template_kwargs(request)

        def new() -> Any:
            return kind(tokenizer, request.tools, chat_template_kwargs=values, model_config=config)

        grammar = _grammar(request.extract_structured_outputs())
        arguments: dict[str, Any] = {}
        if grammar is not None:
            one = new()
            arguments["reasoning_ended"] = request.resolve_reasoning_ended(one, list(prompt))
            if one.reasoning_parser is not None:
                arguments["reasoning_parser_kwargs"] = {"chat_template_kwargs": values}
        source = ParserSource(new, make_tool_call_id, request, prompt, kind.reasoning_parser_cls is not None)
        return ChatParser(source, chat.options, grammar, arguments)


def _request(chat: Chat) -> ChatCompletionRequest:
    try:
        return ChatCompletionRequest(
            **chat.options,
            messages=deepcopy(list(chat.messages)),  # vLLM writes into them
            add_generation_prompt=chat.turn == "new",
            continue_final_message=chat.turn == "continued",
            skip_special_tokens=chat.skip_special_tokens,
            structured_outputs=structured_outputs(chat.grammar),
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or next(iter(chat.options), "messages")
        raise InvalidRequest(first["msg"], field) from error


def _grammar(constraint: StructuredOutputsParams | None) -> Grammar | None:
    for kind in KINDS:
        value = getattr(constraint, kind, None)
        if value is not None:
            return Grammar(kind, "" if kind == "json_object" else tuple(value) if isinstance(value, list) else value)
    return None
