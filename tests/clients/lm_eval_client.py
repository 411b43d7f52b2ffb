"""lm-eval: log-likelihoods and answers of completions, and answers of chats, to tasks whose data lie in a folder."""

import json
import math
import tempfile
from functools import partial
from pathlib import Path

from asked import CHECKPOINT, DECODING, HEADERS, MODEL, PRESET, URL, each_best_of_4, logprob
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

ROWS = [
    {"question": "The quick brown", "choices": ["fox", "dog", "wood"], "answer": 0},
    {"question": "A good answer is", "choices": ["lazy", "short, kind and right"], "answer": 1},
]
TASK = {"dataset_path": "json", "test_split": "test", "doc_to_text": "{{question}}"}
CHOOSE = {"output_type": "multiple_choice", "doc_to_target": "answer", "doc_to_choice": "choices"}
WRITE = {"output_type": "generate_until", "doc_to_target": "{{choices[answer]}}"}
READ = {"output_type": "loglikelihood_rolling", "doc_to_target": "{{question}}"}
STOP = {"until": ["z", "."], "max_gen_toks": 8}
COMPLETIONS = {"base_url": f"{URL}/completions", "tokenizer": CHECKPOINT, "batch_size": 4}
CHAT = {"base_url": f"{URL}/chat/completions", "num_concurrent": 2}


def evaluate(model: str, task: str, manager: TaskManager, **fields: object) -> list[dict[str, object]]:
    chat = model == "local-chat-completions"
    found = simple_evaluate(model, tasks=[task], task_manager=manager, apply_chat_template=chat, **fields)
    samples: list[dict[str, object]] = found["samples"][task]
    assert len(samples) == len(ROWS)
    return samples


with tempfile.TemporaryDirectory() as folder:
    data = Path(folder, "rows.jsonl")
    data.write_text("\n".join(map(json.dumps, ROWS)))
    for name, task, metric in (
        ("choose", CHOOSE, "acc"),
        ("read", READ, "byte_perplexity"),
        ("write", {**WRITE, "generation_kwargs": STOP}, "exact_match"),
    ):
        own = {"task": name, "dataset_kwargs": {"data_files": {"test": str(data)}}, "metric_list": [{"metric": metric}]}
        Path(folder, f"{name}.yaml").write_text(json.dumps({**TASK, **task, **own}))  # which is YAML too
    manager = TaskManager(include_path=folder, include_defaults=False)
    run = partial(evaluate, manager=manager)

    for sample in run("local-completions", "choose", model_args={"model": MODEL, **COMPLETIONS}):
        for choice, [(found, _)] in zip(sample["doc"]["choices"], sample["resps"], strict=True):
            assert math.isclose(found, logprob(sample["doc"]["question"], f" {choice}"), abs_tol=1e-3)
    for sample in run("local-completions", "read", model_args={"model": MODEL, **COMPLETIONS}):
        assert sample["filtered_resps"][0] < 0
    run("local-completions", "write", model_args={"model": MODEL, **COMPLETIONS})
    run("local-chat-completions", "write", model_args={"model": MODEL, **CHAT})

    # Its own default temperature is 0, at which the best of four would be the best of one: the server refuses that.
    warm = {"temperature": 1.0}
    ask = partial(run, "local-chat-completions", "write")
    with each_best_of_4(requests=3 * len(ROWS)):
        body = ask(model_args={"model": MODEL, **CHAT}, gen_kwargs={**warm, "decoding": DECODING})
        preset = ask(model_args={"model": PRESET, **CHAT}, gen_kwargs=warm)
        header = ask(model_args={"model": MODEL, "header": HEADERS, **CHAT}, gen_kwargs=warm)
