"""Models that are known by name only: what strategies can be checked against before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from decoders.core import Sampling
from decoders.errors import InvalidRequest
from decoders.models import Models
from decoders.policy import Policy
from server.loading import toy as load_toy
from server.settings.valid_sections import ValidSections


@dataclass
class _Named:
    """A policy that knows its guides. Whether an engine here stops at an entropy is known once it runs."""

    name: str
    guides: Mapping[str, str]
    elsewhere: bool

    def check_entropy_stop(self, sampling: Sampling) -> None:  # noqa: ARG002
        if self.elsewhere:
            raise InvalidRequest("The policy is on another server (policy.url).", "strategy.strategy")


def models_by_name(sections: ValidSections, *, toy: bool) -> Models:
    """Return the toy, or stand-ins for the models that the sections name. They can only be checked against."""
    if toy:
        return load_toy().models
    elsewhere = sections.policy is not None and sections.policy.url is not None
    policy = _Named("policy", {name: guide.kind for name, guide in sections.guides.items()}, elsewhere)
    rewards: Any = dict.fromkeys(sections.rewards)
    return Models(cast(Policy, policy), rewards)
