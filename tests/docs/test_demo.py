"""The pages' requests, clients, answer and commands, run against a server with the demo's models."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from evaluation.support.servers import decant
from server.demo.defaults import settings
from tests.docs.asking import client, curl, same_shape
from tests.docs.blocks import ROOT, Block, body, of, values

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
GARDEN = ROOT / "training" / "garden" / "checkpoints"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a server with the demo's settings, and a calibration store of its own."""
    store = tmp_path_factory.mktemp("demo") / "calibration.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # two engines on a machine of few cores
        with decant({**settings(), "calibration": {"store": str(store), "rollouts": 20}}) as url:
            yield url


BODIES = [
    pytest.param(value, id=f"{block.name}-{i}") for block in of("bodies") for i, value in enumerate(values(block.text))
]


@pytest.mark.parametrize("value", BODIES)
def test_a_body_is_answered(demo: str, value: dict[str, Any]) -> None:
    request = body(value)
    response = httpx.post(f"{demo}/v1/chat/completions", json={**request, "seed": 1}, timeout=600)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["choices"][0]["message"]["content"]
    assert answer["decoding"]["strategy"] == request["decoding"]["strategy"]
    named = request["decoding"].get("reward", "default")
    assert answer["decoding"]["results"][0]["rewards"].keys() >= ({named} if isinstance(named, str) else named.keys())


@pytest.mark.parametrize("block", of("curl"), ids=lambda block: block.name)
def test_curl_is_answered(demo: str, block: Block) -> None:
    answer = curl(block, demo)
    message = answer["choices"][0]["message"]
    assert message["content"] or message["tool_calls"]
    assert answer["decoding"]["results"][0]["rewards"] is not None


@pytest.mark.parametrize("block", of("answer"), ids=lambda block: block.name)
def test_an_answer_is_as_it_is_shown(demo: str, block: Block) -> None:
    real = same_shape(block, demo)
    [shown] = values(block.text)
    assert real["usage"]["prompt_tokens"] == shown["usage"]["prompt_tokens"], "which no draw changes"
    assert real["model"] == shown["model"]


@pytest.mark.parametrize("block", of("client"), ids=lambda block: block.name)
def test_a_client_runs_and_prints(demo: str, block: Block, tmp_path: Path) -> None:
    assert "rewards" in client(block, demo, tmp_path)


@pytest.mark.parametrize("block", of("command"), ids=lambda block: block.name)
def test_a_command_runs_beside_its_files(block: Block, tmp_path: Path) -> None:
    """It runs on the garden's small models, since a second demo would not fit beside the first."""
    engine = {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": 2**28}
    own = {
        "policy": {"model": str(GARDEN / "policy"), "engine": engine},
        "rewards": {"default": {"kind": "classifier", "model": str(GARDEN / "reward_helpful"), "engine": engine}},
        "calibration": {"store": "calibration.sqlite", "rollouts": 4},
    }
    (tmp_path / "decant.yaml").write_text(yaml.safe_dump(own))
    line = {"messages": [{"role": "user", "content": "How do I prune a rose?"}], "max_tokens": 8}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(line) + "\n")
    script = f'decant() {{ "{sys.executable}" -m server.cli "$@"; }}\n{block.text}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 prompts have 4 rollouts of default" in done.stdout
    assert (tmp_path / "calibration.sqlite").is_file()
