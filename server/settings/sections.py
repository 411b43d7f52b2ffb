"""All settings in one frozen object, and the sections that are neither rewards nor guides."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt, StringConstraints, field_validator, model_validator

from decoders import Strategy
from server.settings import presets
from server.settings.body_limits import BodyLimits
from server.settings.connection_limits import ConnectionLimits
from server.settings.guides import AnyGuide, QHeadGuide
from server.settings.logs import LogSettings
from server.settings.rewards import AnyReward, GuideReward
from server.settings.section import EngineArgs, Section

Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s]+)$")]
ENGINES = ("policy", "guided")  # the names of the policy's own engines


class PolicySettings(Section):
    model: str = Field(description="A path, or a model id.")
    name: str | None = Field(None, description="The name clients use; the last part of `model` by default.")
    url: str | None = Field(
        None,
        description="http://HOST:PORT/v1 of a server that runs `model`, in place of an engine here.",
    )
    url_model: str | None = Field(None, description="That server's name for the policy; by default its only model.")
    api_key_env: str | None = Field(None, description="The environment variable that holds that server's bearer key.")
    engine: EngineArgs = Field(default_factory=dict, description="vLLM engine arguments.")
    tool_call_parser: str | None = Field(
        None, description="vLLM's parser of the policy's tool calls, such as hermes; without one, tools are refused."
    )
    reasoning_parser: str | None = Field(
        None,
        description="vLLM's parser of the policy's reasoning, such as qwen3; without one, it is part of the answer.",
    )
    chat_template: str | None = Field(
        None, description="A chat template in place of the tokenizer's own: a file, or the template itself."
    )
    trust_request_chat_template: bool = Field(
        False, description="Let requests bring a chat template of their own: its code runs in this server."
    )

    @field_validator("url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https?://[^\s/]+(/\S*)?/v1/?", url):
            raise ValueError(f"'{url}' is no address of a server: write http://HOST:PORT/v1")
        return url

    @property
    def served_name(self) -> str:
        return self.name or self.model.rstrip("/").rsplit("/", 1)[-1]


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_keys_file: Path | None = Field(
        None, description="Hashed keys, one a line, as `decant keys add` writes them; read again when it changes."
    )
    docs: bool = Field(True, description="Serve /docs, /redoc and /openapi.json.")
    metrics: bool = Field(True, description="Serve /metrics.")
    operations_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Another port, to which /metrics, /docs, /redoc and /openapi.json move; health is told on both.",
    )
    operations_host: str | None = Field(None, description="The address of that port; by default `host`.")
    cors_origins: list[Origin] = Field(
        default_factory=list,
        description="Web pages that browsers let ask this server, such as https://chat.example.com; * is any.",
    )
    allowed_hosts: list[str] | None = Field(
        None,
        description="Names that a request's `Host` may have, besides localhost and addresses; without keys, a server "
        "that listens on this machine alone allows no other, and any other server all.",
    )
    body_limits: BodyLimits = Field(default_factory=BodyLimits)
    connections: ConnectionLimits = Field(default_factory=ConnectionLimits)
    accounting_log: Path | None = Field(None, description="A file of JSON lines: who used what, by key.")
    max_sequences: PositiveInt = Field(256, description="Sequences in the engine at once, all requests together.")
    max_queue: int = Field(1024, ge=0, description="Requests that may wait for a place; more are refused with 503.")
    max_wait_s: PositiveFloat = Field(
        120.0, description="Seconds that a request may wait for a place; one that would wait longer gets 503 at once."
    )
    narrow_sequences: PositiveInt = Field(
        8, description="Requests of at most so many sequences are narrow: they have a lane of their own."
    )
    wide_share: PositiveInt | None = Field(
        None,
        description="Sequences that all wide requests together may draw while there are narrow ones; by default 8 on a "
        "CPU, and half of `max_sequences` on a GPU.",
    )
    max_prompts: PositiveInt = Field(256, description="Prompts in one completions request.")
    max_candidates: PositiveInt = Field(16384, description="Candidates, or blocks, that one request may draw.")
    max_generated_tokens: PositiveInt = Field(2**24, description="Tokens that one request may generate in all.")
    request_timeout_s: PositiveFloat = 600.0
    drain_timeout_s: float = Field(30.0, ge=0)

    @model_validator(mode="after")
    def _ports_differ(self) -> "ServerSettings":
        if self.operations_port and self.operations_port == self.port and self.operations_host in (None, self.host):
            raise ValueError(f"operations_port: {self.port} is the port of the API")
        return self


class CalibrationSettings(Section):
    """Where the rollouts behind calibrated rewards are kept, and how many a prompt has."""

    store: Path | None = Field(None, description="An SQLite file, made if need be; without one nothing is kept.")
    rollouts: int = Field(100, ge=1, le=1024, description="Samples of the policy for each prompt.")
    max_entries: PositiveInt = Field(100_000, description="Prompts times rewards; the least recently used leave.")


class Settings(Section):
    """Everything `decant serve` needs to know."""

    policy: PolicySettings
    guides: dict[str, AnyGuide] = Field(default_factory=dict)
    guided_engine: EngineArgs | None = Field(
        None,
        description="Engine arguments of a second engine, a copy of the policy with the guides, for guided requests "
        "alone; without it one engine serves all requests.",
    )
    rewards: dict[str, AnyReward] = Field(default_factory=dict)
    presets: dict[str, Strategy] = Field(
        default_factory=dict,
        description="Strategies by name: a client asks for one by the model `POLICY:NAME`.",
    )
    shipped_presets: bool = Field(True, description="Offer the shipped presets too, where the models can run them.")
    default_preset: str | None = Field(None, description="The preset of requests that ask for no strategy.")
    calibration: CalibrationSettings = Field(default_factory=CalibrationSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    logs: LogSettings = Field(default_factory=LogSettings)

    @field_validator("rewards", "guides")
    @classmethod
    def _names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not name.isidentifier():
                raise ValueError(f"'{name}' is not a name: use letters, digits and underscores")
            if name in ENGINES:
                raise ValueError(f"none may be called '{name}'")
        return named

    @field_validator("presets")
    @classmethod
    def _preset_names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not presets.NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a name: use up to 64 letters, digits, '.', '_' and '-'")
        return named

    @model_validator(mode="after")
    def _default_preset_is_there(self) -> "Settings":
        known = {*self.presets, *(presets.SHIPPED if self.shipped_presets else ())}
        if self.default_preset is not None and self.default_preset not in known:
            loaded = ", ".join(sorted(known)) or "none"
            raise ValueError(f"default_preset: there is no preset '{self.default_preset}'. Presets: {loaded}")
        return self

    @model_validator(mode="after")
    def _what_a_policy_elsewhere_cannot_do(self) -> "Settings":
        if self.policy.url is not None and (self.guides or self.guided_engine is not None):
            raise ValueError("policy.url: guides run in an engine of this server: leave them out, or the url")
        return self

    @model_validator(mode="after")
    def _guides_are_there(self) -> "Settings":
        if self.guided_engine is not None and not self.guides:
            raise ValueError("guided_engine: there are no guides to run in it")
        for name, reward in self.rewards.items():
            if not isinstance(reward, GuideReward):
                continue
            guide = self.guides.get(reward.guide)
            if guide is None:
                loaded = ", ".join(sorted(self.guides)) or "none"
                raise ValueError(f"rewards.{name}: there is no guide '{reward.guide}'. Guides: {loaded}")
            if isinstance(guide, QHeadGuide):
                raise ValueError(f"rewards.{name}: the guide '{reward.guide}' has values of tokens, not probabilities")
        return self
