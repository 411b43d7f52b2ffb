"""`python -m training.guides [positive|brief|all]`: train the demo's guides, ship them, and measure what they give.

Rollouts of the policy are drawn once and labelled for each guide, so `all` costs less than one guide after the other.
The measurement loads the files that ship, and its prompts share no frame with the training prompts.
"""

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from server.demo.world import DemoWorld, ensure
from training.guides import adapter, rollouts
from training.guides.evaluate import table
from training.guides.halves import load_policy
from training.guides.pairs import pairs_of
from training.guides.record import read_record, write_record
from training.guides.review_judge import judge_of_reviews
from training.guides.study import scorers, study
from training.guides.train import RECIPES, train_guide
from training.sentiment import prompts


@dataclass(frozen=True)
class Size:
    """The size of a run: one prompt and one review in `stride`, completions of each prompt, training steps at most."""

    stride: int = 1
    rollouts: int = 16
    held_out: int = 8
    steps: int = 10_000


QUICK = Size(stride=10, rollouts=2, held_out=2, steps=2)


def main() -> None:
    """Train on one thread, so that the order of sums is fixed."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m training.guides", description=__doc__)
    parser.add_argument("guide", nargs="?", choices=[*RECIPES, "all"], default="all")
    parser.add_argument("--out", type=Path, help="where the adapters' directories go (default: the demo's assets)")
    parser.add_argument("--margin", type=float, default=1.0, help="m of the loss: 0 is GenARM's own (default: 1)")
    parser.add_argument("--quick", action="store_true", help="a few steps as a trial; writes nothing to --out")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure the guides in --out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = list(RECIPES) if arguments.guide == "all" else [arguments.guide]
    size = QUICK if arguments.quick else Size()
    world = ensure()
    with tempfile.TemporaryDirectory() as scratch:
        shipped = arguments.out or adapter.ASSETS
        out = Path(scratch) if arguments.quick else shipped
        if not arguments.measure:
            train_guides(names, out, world, size, arguments.margin)
        measure_guides(names, shipped if arguments.measure else out, out, world, size)


def train_guides(names: list[str], out: Path, world: DemoWorld, size: Size, margin: float) -> None:
    """Train the named guides into directories of `out`, each with a record of its training."""
    from transformers import AutoTokenizer

    started = time.process_time()
    policy, tokenizer = load_policy(world.policy), AutoTokenizer.from_pretrained(world.policy)
    prompt_ids = rollouts.prompt_ids(prompts.TRAINING_RAW, prompts.TRAINING_CHAT, tokenizer)[:: size.stride]
    draws = rollouts.roll_out(policy, prompt_ids, size.rollouts, seed=0)
    shared = time.process_time() - started
    for name in names:
        started = time.process_time()
        recipe = replace(RECIPES[name], steps=min(RECIPES[name].steps, size.steps), margin=margin)
        if name == "positive":
            labels = rollouts.sentiment(world.reward, prompt_ids, draws)
        else:
            labels = rollouts.brevity(draws, tokenizer)
        pairs = pairs_of(prompt_ids, draws, labels, ends=recipe.ends, per=recipe.per, gap=recipe.gap, seed=recipe.seed)
        guide = train_guide(policy, pairs, recipe, name=name)
        adapter.save(guide, out / name, below=policy.config.num_hidden_layers - recipe.layers)
        seconds = {"rollouts": round(shared), "labels_and_training": round(time.process_time() - started)}
        made_of = {"prompts": len(prompt_ids), "rollouts": len(draws), "pairs": len(pairs)}
        write_record(out / name, {"form": "ratio", "recipe": asdict(recipe), **made_of, "cpu_seconds": seconds})


def measure_guides(names: list[str], source: Path, out: Path, world: DemoWorld, size: Size) -> None:
    """Measure the named guides in `source`; print the table, and add it to their records in `out`."""
    from transformers import AutoTokenizer

    started = time.process_time()
    policy, tokenizer = load_policy(world.policy), AutoTokenizer.from_pretrained(world.policy)
    judge, accuracy = judge_of_reviews(size.stride)
    held_out = rollouts.prompt_ids(prompts.HELD_OUT_RAW, prompts.HELD_OUT_CHAT, tokenizer)[:: size.stride]
    guides = {name: adapter.load(world.policy, source / name) for name in names}
    rows = study(policy, held_out, guides, scorers(world.reward, judge, tokenizer), n=size.held_out)
    for name in names:
        write_record(out / name, {**read_record(source / name), "judge_accuracy": accuracy, "rows": rows})
    print(table(rows))
    print(f"measuring took {time.process_time() - started:.0f} s of the processor")


if __name__ == "__main__":
    main()
