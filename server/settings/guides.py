"""The sections of guides, one class for each kind."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from server.settings.section import Section


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
