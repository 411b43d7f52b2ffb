"""`python -m training.sentiment`: train the demo's sentiment adapter, and record its held-out accuracy beside it."""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from server.demo import policy, reward
from training.sentiment.data import HELD_OUT, held_out_examples, split
from training.sentiment.evaluate import accuracy, lexicon, rewards
from training.sentiment.train import SentimentRecipe, save_adapter, train_sentiment


def main() -> None:
    """Train on one thread, so that the order of sums is fixed."""
    import torch
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(prog="python -m training.sentiment", description=__doc__)
    parser.add_argument("--out", type=Path, help="where the adapter goes (default: the demo's assets)")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps as a trial; writes nothing to --out's default"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = SentimentRecipe(layers=4, frozen=2, short=64, long=32) if arguments.quick else SentimentRecipe()

    with tempfile.TemporaryDirectory() as scratch:
        base, built = Path(scratch, "policy"), Path(scratch, "reward")
        out = arguments.out or (Path(scratch, "adapter") if arguments.quick else reward.ADAPTER)
        policy.convert(base, print)
        tokenizer = AutoTokenizer.from_pretrained(base)
        training, held_out = split()
        started = time.monotonic(), time.process_time()
        model = train_sentiment(base, training, tokenizer, recipe)
        wall, cpu = time.monotonic() - started[0], time.process_time() - started[1]
        save_adapter(model, out)
        reward.build(base, built, print, adapter=out)
        # Take every tenth in a quick run, so that both kinds of review are among them.
        examples = held_out_examples(held_out[:: 10 if arguments.quick else 1], tokenizer)
        metrics = {
            "reward": accuracy(rewards(built, examples), examples),
            "vader": accuracy(lexicon(examples, tokenizer), examples),
        }
        record = {"accuracy": metrics, "held_out": HELD_OUT, "recipe": asdict(recipe), "cpu_seconds": round(cpu)}
        (out / "metrics.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, table in metrics.items():
        print(name, " ".join(f"{part} {value:.3f}" for part, value in table.items()))
    print(f"training took {wall:.0f} s, {cpu:.0f} s of them on the processor")


if __name__ == "__main__":
    main()
