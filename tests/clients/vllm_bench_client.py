"""vllm bench serve: completions and chats of random tokens, and each way to ask for a strategy."""

import json
import sys
import tempfile
from pathlib import Path

from asked import CHECKPOINT, DECODING, MODEL, PRESET, URL, each_best_of_4
from vllm.entrypoints.cli.main import main

SIZE = ["--dataset-name", "random", "--num-prompts", "3", "--random-input-len", "16", "--random-output-len", "8"]
COMMON = ["--base-url", URL.removesuffix("/v1"), "--tokenizer", CHECKPOINT, *SIZE, "--ignore-eos", "--disable-tqdm"]
TEXT = ["--backend", "openai", *COMMON]
CHAT = ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions", *COMMON]


def bench(words: list[str]) -> tuple[int, int]:
    """Run the command with these words; return how many requests it completed and the tokens that it counted."""
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["vllm", "bench", "serve", *words]
        sys.argv += ["--save-result", "--result-dir", folder, "--result-filename", "result.json"]
        main()
        result = json.loads(Path(folder, "result.json").read_text())
    return result["completed"], result["total_output_tokens"]


for words in ([*TEXT, "--model", MODEL], [*CHAT, "--model", MODEL]):
    assert bench(words) == (3, 3 * 8)

body = [*CHAT, "--model", MODEL, "--extra-body", json.dumps({"decoding": DECODING})]
preset = [*CHAT, "--model", PRESET]
header = [*CHAT, "--model", MODEL, "--header", "X-Decant-Preset=best-of-4"]
for words in (body, preset, header):
    with each_best_of_4(requests=3):
        assert bench(words) == (3, 3 * 8 * 4), "usage counts the tokens of every candidate"
