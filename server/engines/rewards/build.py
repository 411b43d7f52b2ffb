"""A reward as the settings describe it."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from decoders.models import Reward
from server.engines.rewards.batcher import Batcher, ScoreBatch
from server.engines.rewards.function_process import FunctionProcess
from server.engines.rewards.function_reward import call_in_thread, load_function
from server.engines.rewards.remote_reward import RemoteReward
from server.engines.rewards.reward_text import DESCRIPTIONS
from server.engines.text.model_text import ModelText
from server.settings import AnyReward, ClassifierReward, FunctionReward, GuideReward, HttpReward, ProcessReward

if TYPE_CHECKING:
    from server.engines.policy import VllmPolicy
    from server.engines.vllm_seam import Engine


def build_reward(
    spec: AnyReward,
    policy: "VllmPolicy",
    text: ModelText,
    engine: "Engine | None",
    closers: list[Callable[[], Awaitable[None]]],
) -> tuple[Reward, str]:
    """Return a reward, and a description of how it reads prompt and completion.

    Args:
        text: The policy's tokenizer.
        engine: The one that runs the reward's model, if it has a model of its own.
        closers: What closes the reward is appended here.
    """
    if isinstance(spec, FunctionReward):
        call = load_function(spec.function, spec.call)
        function: ScoreBatch = call_in_thread(call)
        if spec.own_process:
            process = FunctionProcess(spec.function, call)
            closers.append(process.aclose)
            function = process.score
        return Batcher(function, spec.max_batch, spec.timeout_s, scores_all=spec.scores_all), DESCRIPTIONS["policy"]
    if isinstance(spec, HttpReward):
        remote = RemoteReward(spec, policy=text)
        closers.append(remote.aclose)
        return Batcher(remote.score, spec.max_batch, spec.timeout_s, scores_all=True), DESCRIPTIONS[spec.reads]
    from server.engines.rewards.guide_reward import VllmGuideReward
    from server.engines.rewards.vllm_reward import VllmReward
    from server.engines.vllm_seam import model_text

    if isinstance(spec, GuideReward):
        return VllmGuideReward(policy, spec.guide), f"{DESCRIPTIONS['policy']}; the policy's own token ids"
    assert engine is not None
    own = model_text(engine, spec.chat_template)
    reward = VllmReward(engine, spec, own, text)
    return reward, str(reward.reward_text)


def share_engine(one: AnyReward, other: AnyReward) -> bool:
    """Return whether two rewards read the same model with the same engine arguments."""
    models = ClassifierReward | ProcessReward
    return (
        isinstance(one, models) and isinstance(other, models) and (one.model, one.engine) == (other.model, other.engine)
    )
