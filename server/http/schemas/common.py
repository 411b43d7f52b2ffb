"""What completions and chat completions have in common: how to sample, and by which strategy.

A validator that looks at several fields raises `InvalidRequest`, which pydantic lets through as it is: the error
keeps the name of its field, which a ValueError would lose.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

from decoders import Sample, Strategy
from decoders.core import Grammar, Sampling
from decoders.errors import InvalidRequest

MAX_LOGPROBS = 20  # vLLM's default bound
INT64 = 2**63

LEAST_TEMPERATURE = 0.01  # vLLM draws at this one when a lower one is asked for, 0 apart


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _drawn(temperature: float) -> float:
    if 0 < temperature < LEAST_TEMPERATURE:
        raise ValueError(f"Input should be 0, or at least {LEAST_TEMPERATURE:g}: the engine draws at no lower one")
    return temperature


def _token_id(key: object) -> object:
    """A key of a JSON object, which is a string, as a token id."""
    return int(key) if isinstance(key, str) and _TOKEN_ID.fullmatch(key) else key


_TOKEN_ID = re.compile(r"-?(0|[1-9][0-9]{0,17})")
TokenId = Annotated[int, BeforeValidator(_token_id)]
Temperature = Annotated[
    float,
    Field(ge=0, le=2),
    AfterValidator(_drawn),
    WithJsonSchema({"anyOf": [{"const": 0}, {"type": "number", "minimum": LEAST_TEMPERATURE, "maximum": 2}]}),
]
Seed = Annotated[int, Field(ge=-INT64, lt=INT64)]
Stops = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=16), BeforeValidator(_listed)
]


class StreamOptions(BaseModel, frozen=True, extra="forbid"):
    include_usage: bool = Field(False, description="One more chunk at the end has the usage.")
    continuous_usage_stats: bool = Field(False, description="Each chunk has the usage so far.")
    include_obfuscation: bool = Field(False, description="Chunks are padded to a multiple of a length.")


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
    """Every field is honoured or refused; what asks for nothing is dropped (`noops`)."""

    decoding: Strategy = Field(default_factory=Sample, description="The strategy; a plain sample by default.")
    n: int = Field(1, ge=1, le=256)
    temperature: Temperature = 1.0
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, lt=INT64)
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] = Field(default_factory=dict)
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
