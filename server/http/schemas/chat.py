"""POST /v1/chat/completions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from decoders.core import Prompt, Sampling
from decoders.errors import InvalidRequest
from server.engines.text import Turn
from server.engines.text.chat_parser import ChatParser
from server.http.schemas import noops
from server.http.schemas.common import MAX_LOGPROBS, Body
from server.http.schemas.items import Items
from server.http.schemas.messages import ChatMessage, check_messages
from server.http.schemas.tools import NamedTool, Tool, ToolChoice, check_choice


class ChatTemplateOptions(BaseModel, frozen=True, extra="forbid"):
    """How a chat is rendered as a prompt; the fields are vLLM's."""

    tools: Items[Tool] = Field(default_factory=list, description="What the policy may call.")
    chat_template: str | None = Field(
        None, description="In place of the model's own; only where the server trusts requests with it."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Handed to the chat template, such as `enable_thinking`."
    )
    documents: Items[dict[str, Any]] = Field(default_factory=list, description="Handed to the chat template.")
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="Handed to the chat template; `none` asks a template that can to leave reasoning out."
    )
    add_generation_prompt: bool | None = Field(
        None, description="Open the assistant's turn after the messages; true by default, unless the last is continued."
    )
    continue_final_message: bool = Field(
        False, description="Continue the last message, which is the beginning of the assistant's turn."
    )

    @property
    def turn(self) -> Turn:
        """Which turn the policy writes after the messages."""
        if self.continue_final_message:
            return "continued"
        return "none" if self.add_generation_prompt is False else "new"

    @property
    def options(self) -> dict[str, Any]:
        """What is asked of vLLM's renderer beside the turn, in its names."""
        asked: dict[str, Any] = {"tools": [tool.model_dump(exclude_unset=True) for tool in self.tools]}
        for name in ("chat_template", "chat_template_kwargs", "documents", "reasoning_effort"):
            asked[name] = getattr(self, name)
        return {name: value for name, value in asked.items() if value}

    def check_messages(self, messages: Sequence[ChatMessage]) -> None:
        """Raise `InvalidRequest` for a message that is none, or if the last cannot be continued as the fields ask."""
        continued = self.continue_final_message
        check_messages(messages, opened=bool(self.add_generation_prompt), continued=continued)
        if continued and (messages[-1].role != "assistant" or messages[-1].tool_calls):
            raise InvalidRequest(
                "The last message must be the assistant's, with a text to be continued.", "continue_final_message"
            )


class ChatBody(Body, ChatTemplateOptions, frozen=True, extra="forbid", json_schema_extra=noops.described(noops.CHAT)):
    messages: Items[ChatMessage] = Field(min_length=1, description="The chat so far.")
    max_tokens: int | None = Field(None, ge=1, le=2**31, description="OpenAI's older name of `max_completion_tokens`.")
    max_completion_tokens: int | None = Field(
        None, ge=1, le=2**31, description="As many as fit the model's context, by default."
    )
    logprobs: bool = Field(False, description="Add the log-probabilities of the tokens.")
    top_logprobs: int | None = Field(
        None, ge=0, le=MAX_LOGPROBS, description="Add so many likeliest tokens; only with `logprobs`."
    )
    tool_choice: ToolChoice | None = Field(
        None, description="`auto` by default where there are tools; `required` and a named tool are constraints."
    )
    add_special_tokens: bool = Field(
        False, description="Add the tokenizer's own special tokens to those of the chat template."
    )
    parallel_tool_calls: bool = Field(True, description="Whether an answer may have several calls.")
    include_reasoning: bool = Field(True, description="Show the reasoning, where the server tells it apart.")

    @model_validator(mode="before")
    @classmethod
    def _drop_noops(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        sent = noops.without_noops(noops.CHAT, data)
        return {**sent, "messages": noops.messages_without_noops(sent["messages"])} if "messages" in sent else sent

    @model_validator(mode="after")
    def _consistent_fields(self) -> "ChatBody":
        self.check_messages(self.messages)
        check_choice(self.tool_choice, self.tools)
        if self.grammar is not None and self.tool_choice not in (None, "none", "auto"):
            raise InvalidRequest(f"tool_choice and {self.grammar_field} exclude each other.", "tool_choice")
        for name in ("logprobs", "return_token_ids"):
            if getattr(self, name) and not self.include_reasoning:
                message = f"{name} would show the reasoning that include_reasoning hides."
                raise InvalidRequest(message, "include_reasoning")
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("top_logprobs goes with logprobs: true.", "top_logprobs")
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise InvalidRequest("max_tokens and max_completion_tokens say different things.", "max_tokens")
        return self

    @property
    def length_field(self) -> str:
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def logprobs_field(self) -> str:
        return "top_logprobs"

    @property
    def grammar_field(self) -> str:
        if self.grammar is None and self.tools:  # then the choice of tools is a grammar
            return "tools" if self.tool_choice in (None, "auto") else "tool_choice"
        return super().grammar_field

    @property
    def options(self) -> dict[str, Any]:
        asked = super().options
        if self.tools:
            choice = self.tool_choice
            asked["tool_choice"] = choice.model_dump() if isinstance(choice, NamedTool) else choice or "auto"
            if not self.parallel_tool_calls:
                asked["parallel_tool_calls"] = False
        if not self.include_reasoning:
            asked["include_reasoning"] = False
        if self.add_special_tokens:
            asked["add_special_tokens"] = True
        return asked

    def sampling(self, prompt: Prompt, max_model_len: int) -> Sampling:
        asked = self.max_completion_tokens or self.max_tokens
        room = max(max_model_len - len(prompt.tokens), 1)
        made = self.to_sampling(
            max_tokens=room if asked is None else asked,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )
        return prompt.parser.adjusted(made) if isinstance(prompt.parser, ChatParser) else made
