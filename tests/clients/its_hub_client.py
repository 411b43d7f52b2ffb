"""its_hub: its own algorithms with Decant as their model, whole and step by step, and over Decant's strategies."""

from functools import partial

from asked import HEADERS, MODEL, PRESET, QUESTION, URL, each_best_of_4
from its_hub import BestOfN, OpenAICompatibleLanguageModel, SelfConsistency, StepGeneration
from its_hub.api import AbstractOutcomeRewardModel, AbstractProcessRewardModel
from its_hub.core.algorithms.beam_search import BeamSearch


class Shortest(AbstractOutcomeRewardModel):
    def score(self, messages: object, **_: object) -> list[float]:
        return [-float(len(str(chat))) for chat in messages]

    async def ascore(self, messages: object, **_: object) -> list[float]:
        return self.score(messages)


class ShortestSteps(AbstractProcessRewardModel):
    def score(self, prompt_or_messages: str, steps: list[str]) -> list[float]:
        return [-float(len(prompt_or_messages) + len(step)) for step in steps]

    async def ascore(self, prompt_or_messages: str, steps: list[str]) -> list[float]:
        return self.score(prompt_or_messages, steps)


lm = partial(OpenAICompatibleLanguageModel, URL, "none", max_completion_tokens=8, temperature=0.8)
plain = lm(model_name=MODEL)
best = BestOfN(Shortest()).infer(plain, QUESTION, budget=4, return_response_only=False)
assert len(best.responses) == 4
assert best.scores[best.selected_index] == max(best.scores)
vote = SelfConsistency(lambda text: text[:1])
assert sum(vote.infer(plain, QUESTION, budget=4, return_response_only=False).response_counts.values()) == 4
for steps in (
    StepGeneration(max_steps=2, step_token="e", include_stop_str_in_output=True),
    StepGeneration(max_steps=2, tokens_per_step=4),
):
    beams = BeamSearch(steps, ShortestSteps(), beam_width=2).infer(
        plain, QUESTION, budget=4, return_response_only=False
    )
    assert max(beams.steps_used) == 3

preset = lm(model_name=PRESET)
header = lm(model_name=MODEL)
header.headers.update(HEADERS)
for strong in (preset, header):
    with each_best_of_4(requests=2):
        vote.infer(strong, QUESTION, budget=2)
