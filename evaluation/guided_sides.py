"""What guided decoding is measured against: models made on the spot, and the processes that run them."""

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from evaluation.servers import process
from server.demo.defaults import cpu_arguments
from server.demo.policy import quiet_transformers
from server.demo.world import ensure
from server.settings import ArmGuide, PolicySettings

SHIPPED = Path(__file__).parents[1] / "server/demo/assets/guides/positive"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ENGINE = {"max_model_len": 512, "kv_cache_memory_bytes": 2**29, "max_num_seqs": 16, "enable_chunked_prefill": False}
PROCESSOR = "evaluation.guided_processor:GuideOutside"
WEIGHT = 2.0  # of the guide
THREADS = os.environ.get("OMP_NUM_THREADS", "1")  # of each process

Ask = Callable[[dict[str, Any]], dict[str, Any]]
Side = Callable[..., dict[str, Any]]


def start(folder: Path, stack: ExitStack) -> dict[str, Side]:
    """What there is to measure, by name, in processes that end with `stack`.

    policy, guide     each alone, on vLLM
    guided, adapted   both on Decant's engine; the guide a model of its own, or an adapter on the policy's top layers
    plain             unguided requests to that engine
    processor, loop   policy and guide on vLLM and Transformers, and on Transformers alone
    """
    from evaluation import guided_processor
    from server.engines.guided.plan import plan

    policy, engine = str(ensure().policy), {**ENGINE, **cpu_arguments()}
    with quiet_transformers():
        adapter, guide = make_guides(policy, folder)
    guides = {"own": ArmGuide(model=guide), "adapter": ArmGuide(model=adapter, base=policy)}
    made, arguments = plan(guides, PolicySettings(model=policy, engine=engine))
    processed = {
        **engine,
        "logits_processors": [PROCESSOR],
        "additional_config": {guided_processor.GUIDE: guide},
    }

    def child(name: str, program: str, argument: dict[str, Any]) -> Ask:
        return stack.enter_context(_child(f"evaluation.{program}", argument, folder / f"{name}.log"))

    def side(ask: Ask, **more: Any) -> Side:
        return lambda **asked: ask({"extra_args": None, "salt": None, **more, **asked})

    def inside(guide: str) -> dict[str, Any]:
        weights = made.weights({guide: WEIGHT})
        return {"extra_args": made.extra_args(weights), "salt": made.salt(weights)}

    ours = child("guided", "guided_engine", {"model": policy, "engine": arguments})
    both = {"policy": policy, "guide": guide, "dtype": engine.get("dtype", "auto")}
    return {
        "policy": side(child("policy", "guided_engine", {"model": policy, "engine": engine})),
        "guide": side(child("guide", "guided_engine", {"model": guide, "engine": engine})),
        "guided": side(ours, **inside("own")),
        "adapted": side(ours, **inside("adapter")),
        "plain": side(ours),
        "processor": side(
            child("processor", "guided_engine", {"model": policy, "engine": processed}),
            extra_args={guided_processor.WEIGHT: WEIGHT},
        ),
        "loop": side(child("loop", "guided_loop", both), weight=WEIGHT),
    }


def make_guides(policy: str, folder: Path) -> tuple[str, str]:
    """An adapter on the policy's top layers, and a checkpoint of the policy's shape that shares none of its weights.

    The demo's adapter where there is one, else a random one: what a guide has learnt makes no difference to speed. In
    the checkpoint the adapter is merged, and every weight is off by about a hundredth.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    if (SHIPPED / "adapter_config.json").is_file():
        adapter, tuned = SHIPPED, PeftModel.from_pretrained(base, str(SHIPPED))
    else:
        layers = base.config.num_hidden_layers
        top = list(range(layers // 2, layers))
        tuned = get_peft_model(base, LoraConfig(r=8, target_modules=LINEAR, layers_to_transform=top))
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        adapter = folder / "adapter"
        tuned.save_pretrained(adapter)
    guide = tuned.merge_and_unload()
    with torch.no_grad():
        for weight in guide.parameters():
            weight.mul_(1 + 0.01 * torch.randn_like(weight))
    guide.to(torch.bfloat16).save_pretrained(folder / "guide")
    AutoTokenizer.from_pretrained(policy).save_pretrained(folder / "guide")
    return str(adapter), str(folder / "guide")


@contextmanager
def _child(program: str, argument: dict[str, Any], log: Path) -> Iterator[Ask]:
    """How to ask a program that answers a line with a line, which starts meanwhile; the first answer waits for it."""
    environment = {
        "OMP_NUM_THREADS": THREADS,
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    command = [sys.executable, "-m", program, json.dumps(argument)]
    with process(command, log, **environment) as running:
        stdin, stdout = running.stdin, running.stdout
        assert stdin is not None
        assert stdout is not None

        def ask(asked: dict[str, Any]) -> dict[str, Any]:
            stdin.write(json.dumps(asked) + "\n")
            stdin.flush()
            for line in stdout:
                if line.startswith(">"):
                    heard: dict[str, Any] = json.loads(line[1:])
                    return heard
            raise SystemExit(f"{program} ended:\n{log.read_text()[-3000:]}")

        yield ask


def prompts(count: int) -> list[list[int]]:
    """Twenty tokens each, that no cache has seen."""
    return [[random.randrange(100, 40_000) for _ in range(20)] for _ in range(count)]


def check(sides: dict[str, Side]) -> None:
    """That all who run the same guide follow one law, which is not the policy's. Raises SystemExit.

    Likeliest tokens, of which rounding may turn one in a while.
    """
    asked = {"prompts": prompts(16), "tokens": 4, "greedy": True}
    answers = {name: side(**asked)["tokens"] for name, side in sides.items()}

    def agree(one: str, other: str) -> int:
        return sum(a == b for a, b in zip(answers[one], answers[other], strict=True))

    same = [agree("guided", "processor"), agree("guided", "loop"), agree("policy", "plain")]
    if min(same) < 15 or agree("guided", "policy") == 16 or agree("adapted", "policy") == 16:
        raise SystemExit(f"the sides do not do the same: {answers}")
