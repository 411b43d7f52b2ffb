"""The engine's own spans stand below the draw that asked for them, in the trace of the request."""

from pathlib import Path

import httpx
import pytest

from evaluation.support.tiny_models import make_tiny_models
from tests.support.collector import collecting
from tests.support.engine import ENGINE
from tests.support.forked import decant

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


def test_an_engines_spans_are_below_the_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = make_tiny_models(tmp_path)
    settings = {
        "policy": {"model": str(models["policy"]), "name": "tiny", "engine": {**ENGINE, "max_num_seqs": 8}},
        "rewards": {"default": {"kind": "classifier", "model": str(models["classifier"]), "engine": ENGINE}},
    }
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with decant(settings) as url:
            body = {
                "prompt": "A good answer",
                "max_tokens": 4,
                "ignore_eos": True,
                "decoding": {"strategy": "best_of_n", "n": 3},
            }
            answer = httpx.post(f"{url}/v1/completions", json=body, headers={"x-request-id": "mine"}, timeout=60)
            assert answer.status_code == 200, answer.text
        spans = collector.of("mine")
    [drawn] = [span for span in spans if span.name == "generate"]
    engine = [span for span in spans if span.name == "llm_request"]
    assert [span.parent for span in engine] == [drawn.id] * 3
    assert all(span.attributes["gen_ai.usage.completion_tokens"] == 4 for span in engine)
    assert len([span for span in spans if span.name == "score default"]) == 3
