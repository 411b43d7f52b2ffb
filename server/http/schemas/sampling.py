"""How a request samples the policy: its fields, and the one mapping from a body to `decoders.core.Sampling`.

The fields have the names of OpenAI's API and of vLLM's `SamplingParams`, and so have those of `Sampling`: each field
that a body declares reaches `Sampling` by its name.
"""

import json
import re
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

from decoders.core import Grammar, Sampling
from decoders.errors import InvalidRequest
from server.http.schemas.items import Items

INT64 = 2**63
MIN_TEMPERATURE = 0.01  # vLLM draws at this one when a lower one is asked for, 0 apart

KINDS = get_args(get_type_hints(Grammar)["kind"])
_NAMES = frozenset(field.name for field in fields(Sampling))
_TOKEN_ID = re.compile(r"-?(0|[1-9][0-9]{0,17})")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _zero_or_drawable(temperature: float) -> float:
    if 0 < temperature < MIN_TEMPERATURE:
        raise ValueError(f"Input should be 0, or at least {MIN_TEMPERATURE:g}: the engine draws at no lower one")
    return temperature


def _token_id(key: object) -> object:
    """Return a key of a JSON object, which is a string, as a token id."""
    return int(key) if isinstance(key, str) and _TOKEN_ID.fullmatch(key) else key


TokenId = Annotated[int, BeforeValidator(_token_id)]
Temperature = Annotated[
    float,
    Field(ge=0, le=2),
    AfterValidator(_zero_or_drawable),
    WithJsonSchema({"anyOf": [{"const": 0}, {"type": "number", "minimum": MIN_TEMPERATURE, "maximum": 2}]}),
]
TopK = Annotated[int, Field(ge=-1, lt=INT64), AfterValidator(lambda k: max(k, 0))]  # -1 and 0 both mean all tokens
Seed = Annotated[int, Field(ge=-INT64, lt=INT64)]
Stops = Annotated[
    Items[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=16), BeforeValidator(_listed)
]


class RolloutSampling(BaseModel, frozen=True, extra="forbid"):
    """The sampling fields of every body that draws from the policy."""

    temperature: Temperature = Field(1.0, description="0 takes the likeliest token each time.")
    top_p: float = Field(1.0, gt=0, le=1, description="Draw among the likeliest tokens that have this probability.")
    top_k: TopK = Field(0, description="Draw among this many likeliest tokens; 0 and -1 mean all.")
    min_p: float = Field(0.0, ge=0, le=1, description="Least probability of a token, relative to the likeliest one.")
    stop: Stops = Field(default_factory=list, description="A string, or up to 16 of them, that end the completion.")
    seed: Seed | None = Field(None, description="Makes the answer reproducible.")

    def to_sampling(self, **values: Any) -> Sampling:
        """Return the body's `Sampling`: its own fields by name, and `values` for those that it says otherwise."""
        for name in _NAMES & type(self).model_fields.keys() - values.keys():
            value = getattr(self, name)
            values[name] = tuple(value) if isinstance(value, list) else value
        return Sampling(**values)


class JsonSchema(BaseModel, frozen=True, extra="forbid"):
    name: str = "response"
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel, frozen=True, extra="forbid"):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchema | None = None
    format: dict[str, Any] | None = Field(None, description="Of a structural tag, as xgrammar has it.")
    structures: Items[dict[str, Any]] | None = Field(None, description="Of a structural tag in its older form.")
    triggers: Items[str] | None = Field(None, description="Of a structural tag in its older form.")

    @model_validator(mode="after")
    def _schema_where_due(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise InvalidRequest("json_schema goes with type 'json_schema', and only with it.", "response_format")
        tag = (self.format is not None) != (self.structures is not None and self.triggers is not None)
        parts = (self.format, self.structures, self.triggers)
        if not tag if self.type == "structural_tag" else any(part is not None for part in parts):
            raise InvalidRequest(
                "type 'structural_tag' has either format, or structures and triggers; no other type has them.",
                "response_format",
            )
        return self

    @property
    def grammar(self) -> Grammar | None:
        if self.type == "text":
            return None
        if self.type == "structural_tag":
            return Grammar("structural_tag", json.dumps(self.model_dump(exclude_none=True)))
        return Grammar("json_object") if self.json_schema is None else Grammar("json", self.json_schema.schema_)


class StructuredOutputs(BaseModel, frozen=True, extra="forbid"):
    """vLLM's constraints on the text, of which one is given."""

    json_: dict[str, Any] | str | None = Field(None, alias="json", description="A JSON schema, or its text.")
    regex: str | None = Field(None, min_length=1, max_length=4096, description="A regular expression.")
    choice: Items[Annotated[str, Field(min_length=1)]] | None = Field(
        None, min_length=1, max_length=1024, description="Texts, one of which is the answer."
    )
    grammar: str | None = Field(None, min_length=1, max_length=65536, description="A grammar in EBNF or Lark's form.")
    json_object: Literal[True] | None = Field(None, description="Any JSON object.")
    structural_tag: dict[str, Any] | str | None = Field(
        None, description="xgrammar's structural tag, or its JSON: a constraint on parts of the text."
    )
    disable_any_whitespace: Literal[False] = Field(False, description="Only false.")
    disable_additional_properties: Literal[False] = Field(False, description="Only false.")

    @model_validator(mode="after")
    def _one(self) -> "StructuredOutputs":
        given = list(self._given())
        if len(given) > 1:
            raise InvalidRequest(f"{' and '.join(given)} exclude each other.", "structured_outputs")
        return self

    def _given(self) -> dict[Any, Any]:
        values = {"json": self.json_, **{kind: getattr(self, kind) for kind in KINDS if kind != "json"}}
        return {kind: value for kind, value in values.items() if value is not None}

    @property
    def constraint(self) -> Grammar | None:
        """The constraint that is given, if any."""
        for kind, value in self._given().items():
            if kind == "structural_tag" and not isinstance(value, str):
                value = json.dumps(value)
            if kind == "json_object":
                value = ""
            return Grammar(kind, tuple(value) if isinstance(value, list) else value)
        return None


class CompletionSampling(RolloutSampling, frozen=True, extra="forbid"):
    """The sampling fields of completions and chat completions."""

    n: int = Field(1, ge=1, le=256, description="How many choices to return for each prompt.")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="Subtracted from the logits of tokens that occurred.")
    frequency_penalty: float = Field(
        0.0, ge=-2, le=2, description="Subtracted from a token's logit for each time that it occurred."
    )
    repetition_penalty: float = Field(
        1.0, gt=0, le=10, description="Divides the positive logits of tokens that occurred, the prompt's included."
    )
    logit_bias: dict[TokenId, Annotated[float, Field(ge=-100, le=100)]] = Field(
        default_factory=dict, description="Added to the logits of tokens, by token id."
    )
    allowed_token_ids: Items[int] | None = Field(
        None, min_length=1, description="Only these tokens are drawn, by token id."
    )
    bad_words: Items[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default_factory=list, max_length=256, description="Texts whose tokens do not come one after the other."
    )
    stop_token_ids: Items[int] = Field(
        default_factory=list, max_length=64, description="Up to 64 token ids that end the completion."
    )
    include_stop_str_in_output: bool = Field(False, description="Keep the stop string at the end of the text.")
    skip_special_tokens: bool = Field(True, description="Leave special tokens out of the text.")
    spaces_between_special_tokens: bool = Field(
        True, description="Write a space between special tokens, where the tokenizer is a slow one."
    )
    ignore_eos: bool = Field(False, description="Go on after an end-of-sequence token.")
    thinking_token_budget: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="Reasoning ends after so many tokens, where the server tells it apart."
    )
    min_tokens: int = Field(0, ge=0, description="No end-of-sequence or stop token before so many tokens.")
    stream: bool = Field(False, description="Send server-sent events.")
    response_format: ResponseFormat | None = Field(None, description="The answer is JSON, or fits a JSON schema.")
    regex: str | None = Field(
        None, min_length=1, max_length=4096, description="The answer matches this regular expression."
    )

    structured_outputs: StructuredOutputs | None = Field(
        None, description="The same and more constraints, as vLLM has them."
    )

    @model_validator(mode="after")
    def _one_grammar(self) -> "CompletionSampling":
        given = list(self._grammars())
        if len(given) > 1:
            raise InvalidRequest(f"{' and '.join(given)} exclude each other.", given[0])
        return self

    def _grammars(self) -> dict[str, Grammar]:
        """Return the constraints that are given, by their field."""
        found = {
            "regex": None if self.regex is None else Grammar("regex", self.regex),
            "structured_outputs": None if self.structured_outputs is None else self.structured_outputs.constraint,
            "response_format": None if self.response_format is None else self.response_format.grammar,
        }
        return {field: grammar for field, grammar in found.items() if grammar is not None}

    @property
    def grammar(self) -> Grammar | None:
        return next(iter(self._grammars().values()), None)

    @property
    def grammar_field(self) -> str:
        """The field that gave the grammar."""
        return next(iter(self._grammars()), "response_format")

    def to_sampling(self, **values: Any) -> Sampling:
        return super().to_sampling(grammar=self.grammar, **values)
