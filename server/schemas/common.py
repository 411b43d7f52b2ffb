"""What completions and chat completions have in common: how to sample, and by which strategy.

A validator that looks at several fields raises `InvalidRequest`, which pydantic lets through as it is: the error
keeps the name of its field, which a ValueError would lose.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from decoders import Sample, Strategy
from decoders.core import Grammar, Sampling
from decoders.errors import InvalidRequest

MAX_LOGPROBS = 20  # vLLM's default bound
INT64 = 2**63

# OpenAI's own fields that change the answer, and that no strategy honours. A null is no request.
REFUSED = frozenset(
    {
        "audio", "best_of", "function_call", "functions", "modalities", "moderation", "parallel_tool_calls",
        "prediction", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "safety_identifier",
        "service_tier", "store", "suffix", "tool_choice", "tools", "verbosity", "web_search_options",
    }
)  # fmt: skip


def unsent(data: Any) -> Any:
    """A body without its nulls: a null field is one that was not sent."""
    return {k: v for k, v in data.items() if v is not None} if isinstance(data, Mapping) else data


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Seed = Annotated[int, Field(ge=-INT64, lt=INT64)]
Stops = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=16), BeforeValidator(_listed)
]


class StreamOptions(BaseModel, frozen=True, extra="forbid"):
    include_usage: bool = False


class JsonSchema(BaseModel, frozen=True, extra="forbid"):
    name: str = "response"
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel, frozen=True, extra="forbid"):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_due(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise InvalidRequest("json_schema goes with type 'json_schema', and only with it.", "response_format")
        return self


class Addressed(BaseModel, frozen=True, extra="forbid"):
    """A body that may name the model it is meant for."""

    model: str | None = None


class Body(Addressed, frozen=True, extra="forbid"):
    """Every field is honoured or refused; none is ignored but `user`, which asks for nothing."""

    decoding: Strategy = Field(default_factory=Sample, description="The strategy; a plain sample by default.")
    n: int = Field(1, ge=1, le=256)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, lt=INT64)
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
    seed: Seed | None = None
    stop: Stops = Field(default_factory=list)
    stop_token_ids: list[int] = Field(default_factory=list, max_length=64)
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    ignore_eos: bool = False
    min_tokens: int = Field(0, ge=0)
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    regex: str | None = Field(None, min_length=1, max_length=4096, description="The answer matches this expression.")
    user: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _nulls_and_refusals(cls, data: Any) -> Any:
        """A field that is not supported is named."""
        sent = unsent(data)
        if isinstance(sent, Mapping):
            for name in sorted(REFUSED & sent.keys()):
                raise InvalidRequest(f"'{name}' is not supported.", name)
        return sent

    @model_validator(mode="after")
    def _options_belong_to_streams(self) -> "Body":
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("stream_options goes with stream: true.", "stream_options")
        if self.regex is not None and self.grammar_of_format is not None:
            raise InvalidRequest("regex and response_format exclude each other.", "regex")
        return self

    @property
    def length_field(self) -> str:
        """The field that asked for the answer's length."""
        return "max_tokens"

    @property
    def logprobs_field(self) -> str:
        """The field that asked for the likeliest tokens."""
        return "logprobs"

    @property
    def grammar_of_format(self) -> Grammar | None:
        if self.response_format is None or self.response_format.type == "text":
            return None
        if self.response_format.json_schema is None:
            return Grammar("json_object")
        return Grammar("json", self.response_format.json_schema.schema_)

    def base_sampling(self, max_tokens: int) -> Sampling:
        return Sampling(
            n=self.n,
            max_tokens=max_tokens,
            min_tokens=self.min_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(self.top_k, 0),
            min_p=self.min_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
            stop=tuple(self.stop),
            stop_token_ids=tuple(self.stop_token_ids),
            include_stop=self.include_stop_str_in_output,
            skip_special_tokens=self.skip_special_tokens,
            ignore_eos=self.ignore_eos,
            grammar=self.grammar_of_format if self.regex is None else Grammar("regex", self.regex),
            stream=self.stream,
        )


def body_schema(body: type[BaseModel]) -> dict[str, Any]:
    """A body's schema for /docs, since routes read bodies themselves."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body.model_json_schema()}}}}
