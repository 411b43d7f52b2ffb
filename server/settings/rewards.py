"""The sections of rewards, one class for each kind."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from server.settings.section import EngineArgs, Section

Template = Literal["own", "policy", "none", "pair"]
"""How a reward reads a chat: by the reward model's own chat template, by the policy's, by none, or as a pair."""


class RewardSettings(Section):
    timeout_s: PositiveFloat = Field(60.0, description="How long one call may take before it is a failure.")


class TextReward(RewardSettings):
    """A reward that reads an answer's text, or the answer taken apart."""

    reward_input: Literal["answer", "all"] = Field(
        "answer",
        description="What it reads of a policy that reasons or calls tools: `answer` leaves the reasoning out and has "
        "the calls apart, `all` reads the whole text as it was drawn.",
    )


class ModelReward(TextReward):
    model: str
    engine: EngineArgs = Field(default_factory=dict)
    label: int | None = Field(None, ge=0, description="Which output is the reward, for a model with several.")
    activation: bool = Field(False, description="Apply the model's sigmoid or softmax; raw scores by default.")
    template: Template | None = Field(
        None,
        description="How a chat is read: by the model's own chat template, as the policy's template rendered it, as "
        "plain text, or as a pair of question and answer. By default `own` for a model that has a chat template, else "
        "`policy`.",
    )
    chat_template: str | None = Field(
        None, description="A Jinja template that is the model's own, in place of the one that its tokenizer has."
    )

    @model_validator(mode="after")
    def _own_chat_template(self) -> "ModelReward":
        if self.chat_template is not None and self.template not in (None, "own"):
            raise ValueError(f"chat_template is read with template: own, and not with {self.template}")
        return self


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
    keep_separator: bool = Field(False, description="Read the separator after the tag of the step that it ends.")

    @model_validator(mode="after")
    def _not_a_pair(self) -> "ProcessReward":
        if self.template == "pair":
            raise ValueError("template: pair is read by classifiers alone")
        return self

    @model_validator(mode="after")
    def _product_of_probabilities(self) -> "ProcessReward":
        if self.reduce == "product" and not self.activation:
            raise ValueError("reduce: product multiplies probabilities: set activation: true")
        return self


FunctionCall = Literal["texts", "trl"]
"""How a function is called: with two lists of texts, or by keywords as TRL's trainers do."""


class FunctionReward(TextReward):
    """A Python function, plain or async, called with batches; it returns list[float | None].

    None says that the reward does not apply to that completion.
    """

    kind: Literal["function"] = "function"
    function: str = Field(pattern=r"^[\w.]+:\w+$", description="package.module:callable")
    call: FunctionCall | None = Field(
        None,
        description="`texts`: (prompts, completions), two lists of texts; `trl`: by keywords, as TRL's trainers do. By "
        "default as its signature says.",
    )
    own_process: bool = Field(
        False,
        description="Call it in a process of its own, which is killed and replaced when a call takes over `timeout_s`; "
        "by default in threads of the server.",
    )
    scores_all: bool = Field(
        False, description="It has a finite number for every completion, so that bounds on KL may be reported."
    )
    max_batch: PositiveInt = 64


class HttpReward(TextReward):
    """Another server: vLLM's /classify or /pooling, or OpenRLHF's /get_reward."""

    kind: Literal["http"] = "http"
    url: str = Field(
        pattern=r"^https?://.+/(classify|pooling|get_reward)$",
        description="http://HOST:PORT/classify, /pooling or /get_reward",
    )
    model: str | None = None
    api_key_env: str | None = Field(None, description="The environment variable that holds the bearer key.")
    label: int | None = Field(None, ge=0)
    activation: bool = False
    template: Literal["own", "policy", "none"] | None = Field(
        None,
        description="How a chat is read: `own` sends messages, the others send text. By default `own`; for "
        "/get_reward, which takes text alone, `policy`.",
    )
    max_batch: PositiveInt = 64
    retries: int = Field(1, ge=0, le=5, description="Further tries after a failed connection, a 429, a 502 or a 503.")
    max_reply_bytes: PositiveInt = Field(2**20, description="The longest answer that is read, in bytes.")

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)  # raises ValueError, as `port` does
        if not parts.hostname or parts.port == 0 or any(character.isspace() for character in url):
            raise ValueError(f"'{url}' is no address of a server")
        return url

    @property
    def reads(self) -> Template:
        """The template by which a chat is read."""
        return self.template or ("policy" if self.url.endswith("/get_reward") else "own")

    @model_validator(mode="after")
    def _what_get_reward_takes(self) -> "HttpReward":
        if self.url.endswith("/get_reward"):
            given = self.model_fields_set & {"model", "label", "activation"}
            if given:
                raise ValueError(f"/get_reward has no {', '.join(sorted(given))}: leave it out")
            if self.template == "own":
                raise ValueError("/get_reward takes texts: set template to policy or none")
        return self


class GuideReward(RewardSettings):
    """A guide as a sequence reward: sum_t log pi_r(y_t | x, y_<t) in nats, minus its reference's if it is implicit."""

    kind: Literal["guide"] = "guide"
    guide: str


AnyReward = Annotated[
    ClassifierReward | ProcessReward | FunctionReward | HttpReward | GuideReward, Field(discriminator="kind")
]
