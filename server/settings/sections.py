"""All settings in one frozen object: defaults, then one YAML file, then `DECANT_...` in the environment.

A nested field is named with two underscores: DECANT_SERVER__PORT=9000, DECANT_POLICY__MODEL=/models/policy.
"""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, field_validator, model_validator

EngineArgs = dict[str, Any]  # vLLM's own engine arguments, handed through as they are
Template = Literal["own", "policy", "none"]  # how a reward reads a chat: by which chat template
ENGINES = ("policy", "guided")  # the names of the policy's own engines


class SettingsError(Exception):
    """The settings can not be served; each of `problems`, a line, says which field, and what to do."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class Section(BaseModel, frozen=True, extra="forbid"):
    """A part of the settings: unknown names are mistakes."""


class PolicySettings(Section):
    model: str = Field(description="A path, or a model id.")
    name: str | None = Field(None, description="The name clients use; the last part of `model` by default.")
    engine: EngineArgs = Field(default_factory=dict, description="vLLM engine arguments.")

    @property
    def served_name(self) -> str:
        return self.name or self.model.rstrip("/").rsplit("/", 1)[-1]


class RewardSettings(Section):
    timeout_s: PositiveFloat = Field(60.0, description="How long one call may take before it is a failure.")


class ModelReward(RewardSettings):
    model: str
    engine: EngineArgs = Field(default_factory=dict)
    label: int | None = Field(None, ge=0, description="Which output is the reward, for a model with several.")
    activation: bool = Field(False, description="Apply the model's sigmoid or softmax; raw scores by default.")
    template: Template | None = Field(
        None,
        description="How a chat is read: by the model's own chat template, as the policy's template rendered it, or as "
        "plain text. By default `own` for a model that has a chat template, else `policy`.",
    )


class ClassifierReward(ModelReward):
    """A sequence classifier in a pooling engine: one score for prompt and completion."""

    kind: Literal["classifier"] = "classifier"


class ProcessReward(ModelReward):
    """A token classifier in a pooling engine: a score per token, or per step where the model scores steps at a tag.

    Steps are those of the completion alone, also of one that is not finished. A tag or a separator in the prompt or in
    the chat template, or a tag that the completion itself says, makes no step.
    """

    kind: Literal["process"] = "process"
    reduce: Literal["last", "min", "mean", "product"] = "last"
    step_tag: str | None = Field(None, description="The token that the model scores steps at, such as <extra_0>.")
    step_separator: str = Field(
        "\n\n", min_length=1, description="What separates steps in the assistant's turn; blank steps are none."
    )

    @model_validator(mode="after")
    def _product_of_probabilities(self) -> "ProcessReward":
        if self.reduce == "product" and not self.activation:
            raise ValueError("reduce: product multiplies probabilities: set activation: true")
        return self


class FunctionReward(RewardSettings):
    """A Python function (prompts, completions) -> list[float | None], called in threads with batches.

    None says that the reward does not apply to that completion.
    """

    kind: Literal["function"] = "function"
    function: str = Field(pattern=r"^[\w.]+:\w+$", description="package.module:callable")
    scores_all: bool = Field(
        False, description="It has a finite number for every completion, so that bounds on KL may be reported."
    )
    max_batch: PositiveInt = 64


class HttpReward(RewardSettings):
    """Another server's /classify or /pooling endpoint (vLLM's schema)."""

    kind: Literal["http"] = "http"
    url: str = Field(pattern=r"^https?://.+/(classify|pooling)$", description="http://HOST:PORT/classify or /pooling")
    model: str | None = None
    api_key_env: str | None = Field(None, description="The environment variable that holds the bearer key.")
    label: int | None = Field(None, ge=0)
    activation: bool = False
    template: Template = Field("own", description="How a chat is read: `own` sends messages, the others send text.")
    max_batch: PositiveInt = 64
    retries: int = Field(1, ge=0, le=5, description="Further tries after a failed connection, a 429, a 502 or a 503.")

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)  # raises ValueError, as `port` does
        if not parts.hostname or parts.port == 0 or any(character.isspace() for character in url):
            raise ValueError(f"'{url}' is no address of a server")
        return url


class GuideReward(RewardSettings):
    """A guide as a sequence reward: sum_t log pi_r(y_t | x, y_<t) in nats, minus its reference's if it is implicit."""

    kind: Literal["guide"] = "guide"
    guide: str


AnyReward = Annotated[
    ClassifierReward | ProcessReward | FunctionReward | HttpReward | GuideReward, Field(discriminator="kind")
]


class ModelGuide(Section):
    model: str = Field(
        description="A checkpoint, or a LoRA adapter in PEFT's format, which is merged when it is loaded."
    )
    base: str | None = Field(None, description="The checkpoint under an adapter; by default the one the adapter names.")


class ArmGuide(ModelGuide):
    """An autoregressive reward model: multiplies the policy by pi_r^w."""

    kind: Literal["arm"] = "arm"


class ImplicitGuide(ModelGuide):
    """The implicit reward of a tuned model: multiplies the policy by (pi_tuned / pi_reference)^w."""

    kind: Literal["implicit"] = "implicit"
    reference: str | None = Field(None, description="What the model was tuned from; by default the policy itself.")
    reference_base: str | None = Field(None, description="The checkpoint under the reference, where it is an adapter.")


class QHeadGuide(Section):
    """Values of next tokens, used raw: multiplies the policy by exp(w Q)."""

    kind: Literal["q_head"] = "q_head"
    model: str | None = Field(None, description="A model whose outputs are Q; a checkpoint or an adapter.")
    base: str | None = None
    head: str | None = Field(
        None,
        description="A safetensors file with `weight` [vocabulary, width], on the policy's last hidden states.",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> "QHeadGuide":
        if (self.model is None) == (self.head is None):
            raise ValueError("a q_head is either a `model` or a `head` on the policy")
        return self


AnyGuide = Annotated[ArmGuide | ImplicitGuide | QHeadGuide, Field(discriminator="kind")]


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    api_keys_file: Path | None = Field(None, description="Hashed keys, one a line, as `decant keys add` writes them.")
    max_sequences: PositiveInt = Field(256, description="Sequences in the engine at once, all requests together.")
    max_queue: int = Field(1024, ge=0, description="Requests that may wait for a place; more are refused with 503.")
    max_prompts: PositiveInt = Field(256, description="Prompts in one completions request.")
    max_candidates: PositiveInt = Field(16384, description="Candidates, or blocks, that one request may draw.")
    max_generated_tokens: PositiveInt = Field(2**24, description="Tokens that one request may generate in all.")
    request_timeout_s: PositiveFloat = 600.0
    drain_timeout_s: float = Field(30.0, ge=0)


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
    calibration: CalibrationSettings = Field(default_factory=CalibrationSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)

    @field_validator("rewards", "guides")
    @classmethod
    def _names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not name.isidentifier():
                raise ValueError(f"'{name}' is not a name: use letters, digits and underscores")
            if name in ENGINES:
                raise ValueError(f"none may be called '{name}'")
        return named

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
