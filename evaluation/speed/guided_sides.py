"""What guided decoding is measured against: the processes that run each side, and a check that they agree."""

import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from evaluation.speed.guided_models import make_guides
from evaluation.speed.json_child import JsonChild, json_child
from server.demo.defaults import cpu_arguments
from server.demo.policy import quiet_transformers
from server.demo.world import ensure
from server.settings import ArmGuide, PolicySettings

ENGINE = {"max_model_len": 512, "kv_cache_memory_bytes": 2**29, "max_num_seqs": 16, "enable_chunked_prefill": False}
PROCESSOR = "evaluation.speed.guided_processor:ProcessorGuide"
WEIGHT = 2.0  # of the guide
THREADS = os.environ.get("OMP_NUM_THREADS", "1")  # of each process

Side = Callable[..., dict[str, Any]]
"""Takes `prompts` (token ids), `tokens` (of each completion) and `greedy`; gives `seconds` and the `tokens` drawn."""


def start(folder: Path, stack: ExitStack) -> dict[str, Side]:
    """Start a process for each side, which ends with `stack`; return the sides by name.

    policy, guide     each alone, on vLLM
    guided, adapted   policy and guide on Decant's engine; the guide is a whole model, or an adapter on the policy's top
    plain             unguided requests to the same engine
    processor         the policy on vLLM, the guide on Transformers in a logits processor
    loop              policy and guide on Transformers
    """
    from evaluation.speed import guided_processor  # loads vLLM, as the next one does
    from server.engines.guided.plan import plan

    policy, engine = str(ensure().policy), {**ENGINE, **cpu_arguments()}
    with quiet_transformers():
        adapter, guide = make_guides(policy, folder)
    guides = {"own": ArmGuide(model=guide), "adapter": ArmGuide(model=adapter, base=policy)}
    guide_plan, guided_engine = plan(guides, PolicySettings(model=policy, engine=engine))
    processed = {
        **engine,
        "logits_processors": [PROCESSOR],
        "additional_config": {guided_processor.GUIDE: guide},
    }

    def child(name: str, program: str, argument: dict[str, Any]) -> JsonChild:
        environment = {
            "OMP_NUM_THREADS": THREADS,
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_USE_V2_MODEL_RUNNER": "0",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }
        module = f"evaluation.speed.{program}"
        return stack.enter_context(json_child(module, argument, folder / f"{name}.log", **environment))

    def side(child: JsonChild, **fixed: Any) -> Side:
        return lambda **fields: child.ask({"extra_args": None, "salt": None, **fixed, **fields})

    def weighted(guide: str) -> dict[str, Any]:
        weights = guide_plan.weights({guide: WEIGHT})
        return {"extra_args": guide_plan.extra_args(weights), "salt": guide_plan.salt(weights)}

    ours = child("guided", "guided_vllm", {"model": policy, "engine": guided_engine})
    both = {"policy": policy, "guide": guide, "dtype": engine.get("dtype", "auto")}
    return {
        "policy": side(child("policy", "guided_vllm", {"model": policy, "engine": engine})),
        "guide": side(child("guide", "guided_vllm", {"model": guide, "engine": engine})),
        "guided": side(ours, **weighted("own")),
        "adapted": side(ours, **weighted("adapter")),
        "plain": side(ours),
        "processor": side(
            child("processor", "guided_vllm", {"model": policy, "engine": processed}),
            extra_args={guided_processor.WEIGHT: WEIGHT},
        ),
        "loop": side(child("loop", "guided_loop", both), weight=WEIGHT),
    }


def unseen_prompts(count: int) -> list[list[int]]:
    """Return prompts of 20 random token ids each, so that no prefix cache holds them."""
    return [[random.randrange(100, 40_000) for _ in range(20)] for _ in range(count)]


def check_agreement(sides: dict[str, Side]) -> None:
    """Check that all sides with the same guide draw from one law, and that it differs from the policy's.

    The check compares the likeliest tokens after 16 prompts, of which rounding may change one.

    Raises:
        SystemExit: two sides do not agree.
    """
    request = {"prompts": unseen_prompts(16), "tokens": 4, "greedy": True}
    answers = {name: side(**request)["tokens"] for name, side in sides.items()}

    def agree(one: str, other: str) -> int:
        return sum(a == b for a, b in zip(answers[one], answers[other], strict=True))

    same = [agree("guided", "processor"), agree("guided", "loop"), agree("policy", "plain")]
    if min(same) < 15 or agree("guided", "policy") == 16 or agree("adapted", "policy") == 16:
        raise SystemExit(f"the sides do not agree: {answers}")
