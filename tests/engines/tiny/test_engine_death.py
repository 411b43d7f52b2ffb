"""An engine that dies: everyone who waits is answered, and the server ends so that its supervisor starts it again."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from evaluation.support.servers import process, serve_command, wait
from tests.support.engine import ENGINE, Tiny

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
LONG = {"prompt": "The", "max_tokens": 900, "ignore_eos": True}


def test_a_dead_engine_fails_what_waits_for_it_and_ends_the_server(tiny: Tiny, tmp_path: Path) -> None:
    config, log = tmp_path / "decant.yaml", tmp_path / "log"
    config.write_text(yaml.safe_dump({"policy": {"model": str(tiny.models["policy"]), "engine": ENGINE}}))
    with process(serve_command(config), log) as child:
        address = re.compile(r"at (http://\S+)")
        wait(child, log, lambda: bool(address.search(log.read_text())))
        found = address.search(log.read_text())
        assert found is not None
        with httpx.Client(base_url=found[1], timeout=120) as client, ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(client.post, "/v1/completions", json={**LONG, "n": 4}) for _ in range(4)]
            while not _running(client):
                assert child.poll() is None
            for engine in psutil.Process(child.pid).children(recursive=True):
                if "VLLM" in " ".join(engine.cmdline()) + engine.name():
                    engine.kill()
            answers = [future.result() for future in waiting]
        assert {a.status_code for a in answers} == {503}
        assert {a.json()["error"]["code"] for a in answers} == {"engine_dead"}
        assert child.wait(60) == 1
        assert "engine has died" in log.read_text()


def _running(client: httpx.Client) -> bool:
    lines = client.get("/metrics").text.splitlines()
    return any(line.startswith("vllm:num_requests_running{") and not line.endswith(" 0.0") for line in lines)
