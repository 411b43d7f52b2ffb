"""Real clients, unmodified and of their current versions, against a real server of a tiny model."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.support.servers import name_distribution
from evaluation.support.tiny_models import CHAT, make_tokenizer, save_model
from tests.docs.blocks import ROOT, of, pages
from tests.support.engine import ENGINE
from tests.support.forked import decant

HERE = Path(__file__).parent
OWN = sys.executable  # has vLLM's benchmark, and a newer openai than the other clients allow
APART = str(ROOT / ".venv-clients/bin/python")
RUNS = {
    "openai-own": (OWN, "openai_client.py"),
    "openai-apart": (APART, "openai_client.py"),
    "openai-node": ("node", "openai_client.mjs"),
    "vllm-bench": (OWN, "vllm_bench_client.py"),
    "instructor": (APART, "instructor_client.py"),
    "its-hub": (APART, "its_hub_client.py"),
    "langchain": (APART, "langchain_client.py"),
    "litellm": (APART, "litellm_client.py"),
    "llama-index": (APART, "llama_index_client.py"),
    "lm-eval": (APART, "lm_eval_client.py"),
}
PROXY = "http://127.0.0.1:9"  # where nothing listens, for whatever would leave this machine
ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "",  # they are installed without bytecode: the first run writes what it needs
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HTTP_PROXY": PROXY,
    "HTTPS_PROXY": PROXY,
    "NO_PROXY": "127.0.0.1,localhost",
}
PAGE = pages()["docs/clients.md"]
SCRIPTS = {script for _, script in RUNS.values()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Yield a server's address and its model's folder: one engine, and a reward that is a function, start fast."""
    from transformers import LlamaForCausalLM

    policy = save_model(tmp_path_factory.mktemp("clients"), 0, LlamaForCausalLM, make_tokenizer(384, CHAT))
    compact = {"backend": "xgrammar", "disable_any_whitespace": True}  # or random weights write blanks without end
    settings = {
        "policy": {
            "model": str(policy),
            "name": "tiny",
            "engine": {**ENGINE, "structured_outputs_config": compact},
            "tool_call_parser": "pythonic",
        },
        "rewards": {"default": {"kind": "function", "function": "server.demo.brevity:short_sentences"}},
    }
    with decant(settings) as url:
        yield url, policy


@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", RUNS)
def test_a_client_gets_what_it_asks_for(server: tuple[str, Path], tmp_path: Path, run: str) -> None:
    url, policy = server
    program, script = RUNS[run]
    if program == "node" and not shutil.which("node"):
        pytest.skip("there is no Node on this machine")
    assert shutil.which(program), "make clients installs it"
    name_distribution(tmp_path)
    own = {"HF_HOME": str(tmp_path / "hub"), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [program, str(HERE / script), f"{url}/v1", "tiny", str(policy)],
        env={**os.environ, **ENVIRONMENT, **own},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout


def test_every_client_is_run_and_is_in_the_pages_table() -> None:
    assert {path.name for path in HERE.glob("*_client.*")} == SCRIPTS
    rows = re.findall(r"^\| \[[^]]*\]\(\.\./tests/clients/([\w.]+)\)", PAGE, re.M)
    assert sorted(rows) == sorted(SCRIPTS)


def test_the_table_has_the_versions_that_are_installed() -> None:
    table = PAGE.partition("| client |")[2].partition("\n\n")[0].replace("-", "_")
    pins = re.findall(r"^([\w-]+)\S*==([\d.]+?)(?:\.\*)?\s", (HERE / "requirements.txt").read_text(), re.M)
    assert len(pins) > 5
    for name, version in pins:
        [row] = [line for line in table.splitlines() if name.replace("-", "_") in line.lower()] or ["transformers"]
        assert f"| {version}" in row or name == "transformers", name  # a tokenizer, no client


def test_the_pages_examples_are_what_the_clients_run() -> None:
    def bare(text: str) -> str:
        return "\n".join(line.strip() for line in text.splitlines())

    sources = [bare((HERE / script).read_text()) for script in SCRIPTS]
    examples = of("clients")
    assert len(examples) == len(SCRIPTS)
    for block in examples:
        assert any(bare(block.text) in source for source in sources), block.name
