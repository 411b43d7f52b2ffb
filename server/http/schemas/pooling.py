"""The bodies of POST /classify, /pooling and /score, in vLLM's shapes."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from decoders.errors import InvalidRequest
from server.http.schemas import noops
from server.http.schemas.common import Addressed
from server.http.schemas.items import Items
from server.http.schemas.messages import ChatMessage, check_messages

MAX_TEXTS = 1024

TokenIds = Annotated[Items[Annotated[int, Field(ge=0)]], Field(min_length=1)]
Texts = str | Annotated[Items[str], Field(min_length=1, max_length=MAX_TEXTS)]

# Known to vLLM, and accepted with values that change nothing.
NOOPS: dict[str, noops.Noop] = {
    **{name: noops.BODY[name] for name in ("mm_processor_kwargs", "user")},
    "truncate_prompt_tokens": noops.values("no text is cut"),
    "truncation_side": noops.values("no text is cut", "left", "right"),
    "cache_salt": noops.values("prefixes are cached for all texts"),
    "priority": noops.values("texts are read in their order", 0),
    "padding": noops.values("no text is padded", "do_not_pad"),
}
READING_NOOPS: dict[str, noops.Noop] = {
    **NOOPS,
    **{name: noops.BODY[name] for name in ("chat_template", "chat_template_kwargs", "media_io_kwargs")},
}
POOLING_NOOPS: dict[str, noops.Noop] = {
    **READING_NOOPS,
    "dimensions": noops.values("a reward's numbers are not an embedding"),
    "embed_dtype": noops.values("numbers are sent as JSON", "float32"),
    "endianness": noops.values("numbers are sent as JSON", "native", "big", "little"),
}
SCORE_NOOPS: dict[str, noops.Noop] = {
    **NOOPS,
    "max_tokens_per_query": noops.values("no text is cut", 0),
    "max_tokens_per_doc": noops.values("no text is cut", 0),
    "instruction": noops.values("the texts are read as they are"),
    "chat_template_kwargs": noops.BODY["chat_template_kwargs"],
}
PAIRS = (("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2"))


class OfReward(Addressed, frozen=True, extra="forbid"):
    """What is asked of one reward."""

    model: str | None = Field(
        None, description="The reward's name; by default the reward called `default`, or the only one."
    )
    request_id: str | None = Field(None, description="Becomes a part of the answer's `id`.")
    use_activation: bool | None = Field(
        None, description="Apply the model's sigmoid or softmax; by default as vLLM does, which applies it."
    )


class ClassifyBody(OfReward, frozen=True, extra="forbid", json_schema_extra=noops.described(READING_NOOPS)):
    input: (
        str
        | TokenIds
        | Annotated[Items[str], Field(min_length=1, max_length=MAX_TEXTS)]
        | Annotated[Items[TokenIds], Field(min_length=1, max_length=MAX_TEXTS)]
        | None
    ) = Field(None, description="A text, token ids, or a list of either. Either this or `messages`.")
    messages: Annotated[Items[ChatMessage], Field(min_length=1)] | None = Field(
        None, description="A chat, by the model's own chat template."
    )
    add_special_tokens: bool | None = Field(
        None, description="Add the tokenizer's special tokens; by default to a text, and not to a chat."
    )
    add_generation_prompt: bool = Field(False, description="Open the assistant's turn after the messages.")
    continue_final_message: bool = Field(False, description="Leave the last message's turn open.")

    @model_validator(mode="before")
    @classmethod
    def _drop_noops(cls, data: Any) -> Any:
        return _without(cls._noops(), data)

    @classmethod
    def _noops(cls) -> Mapping[str, noops.Noop]:
        return READING_NOOPS

    @model_validator(mode="after")
    def _one_of_two(self) -> "ClassifyBody":
        if (self.input is None) == (self.messages is None):
            raise InvalidRequest("Give either input or messages.", "input")
        for name in ("add_generation_prompt", "continue_final_message"):
            if name in self.model_fields_set and self.messages is None:
                raise InvalidRequest(f"'{name}' goes with messages.", name)
        check_messages(self.messages or (), opened=self.add_generation_prompt, continued=self.continue_final_message)
        return self

    @property
    def texts(self) -> list[str | list[int]]:
        """The texts and token ids of `input`, one for each answer."""
        if self.input is None:
            return []
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [[token for token in self.input if isinstance(token, int)]]
        return [text for text in self.input if not isinstance(text, int)]


class PoolingBody(ClassifyBody, frozen=True, extra="forbid", json_schema_extra=noops.described(POOLING_NOOPS)):
    task: Literal["classify", "token_classify"] | None = Field(
        None, description="The one that the model is served for; another one is refused."
    )
    encoding_format: Literal["float"] = Field("float", description="Numbers are sent as JSON.")

    @classmethod
    def _noops(cls) -> Mapping[str, noops.Noop]:
        return POOLING_NOOPS


class ScoreBody(OfReward, frozen=True, extra="forbid", json_schema_extra=noops.described(SCORE_NOOPS)):
    queries: Texts | None = Field(None, description="A text or a list: the first texts of pairs.")
    documents: Texts | None = Field(None, description="The second ones: as many, or any number for one first text.")
    items: Texts | None = Field(None, description="Another name of `documents`.")
    data_1: Texts | None = Field(None, description="With `data_2` in place of `queries` and `documents`.")
    data_2: Texts | None = None
    text_1: Texts | None = Field(None, description="With `text_2` in place of `queries` and `documents`.")
    text_2: Texts | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_noops(cls, data: Any) -> Any:
        return _without(SCORE_NOOPS, data)

    @model_validator(mode="after")
    def _pairs(self) -> "ScoreBody":
        given = {name for names in PAIRS for name in names} & self.model_fields_set
        if given not in [set(names) for names in PAIRS]:
            raise InvalidRequest("Give queries and documents, or text_1 and text_2, and no others.", "queries")
        if not self._fit:
            first, second = self._names
            raise InvalidRequest(f"There must be one text in {first}, or as many as in {second}.", first)
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs to score."""
        first, second = self._sides
        return list(zip(first * len(second) if len(first) == 1 else first, second, strict=True))

    @property
    def _names(self) -> tuple[str, str]:
        return next(names for names in PAIRS if set(names) <= self.model_fields_set)

    @property
    def _sides(self) -> tuple[list[str], list[str]]:
        first, second = ([side] if isinstance(side, str) else side for side in map(self.__getattribute__, self._names))
        return first, second

    @property
    def _fit(self) -> bool:
        first, second = self._sides
        return len(first) in (1, len(second))


def _without(known: Mapping[str, noops.Noop], data: Any) -> Any:
    if not isinstance(data, Mapping):
        return data
    sent = noops.without_noops(known, data)
    return {**sent, "messages": noops.messages_without_noops(sent["messages"])} if "messages" in sent else sent
