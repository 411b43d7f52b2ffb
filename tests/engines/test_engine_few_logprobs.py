"""Policies that report fewer log-probabilities than the API allows: asking for more is refused, and kills no engine."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from server.engines.vllm_seam import bounds_of
from tests.support.engine import ENGINE
from tests.support.forked import decant
from tests.support.serving import refused

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
WORDS = ["<s>", "</s>", "<unk>", *["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]]
CHAT = {"messages": [{"role": "user", "content": "fox"}], "max_tokens": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of twelve tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    path = tmp_path_factory.mktemp("few")
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(WORDS), **shape, head_dim=32, max_position_embeddings=64, bos_token_id=0, eos_token_id=1
    )
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(params=[{}, {"max_logprobs": 0}], ids=["vocabulary", "none"])
def bounded(model: Path, request: pytest.FixtureRequest) -> Iterator[tuple[httpx.Client, int]]:
    """A server's client, and how many likeliest tokens its policy can report."""
    engine = {**ENGINE, "max_model_len": 64, **request.param}
    most = 0 if request.param.get("max_logprobs") == 0 else len(WORDS)
    with decant({"policy": {"model": str(model), "engine": engine}}) as url, httpx.Client(base_url=url) as client:
        yield client, most


def test_more_logprobs_than_the_policy_reports_are_refused_by_name(bounded: tuple[httpx.Client, int]) -> None:
    client, most = bounded

    def complete(**body: Any) -> httpx.Response:
        return client.post("/v1/completions", json={"prompt": "fox jumps", "max_tokens": 2, **body}, timeout=60)

    def chat(**body: Any) -> httpx.Response:
        return client.post("/v1/chat/completions", json={**CHAT, "logprobs": True, **body}, timeout=60)

    for asked in (most + 1, 20):
        for more in ({}, {"echo": True}, {"echo": True, "max_tokens": 0}, {"stream": True}):
            assert refused(complete(logprobs=asked, **more), 400)["param"] == "logprobs"
        assert refused(chat(top_logprobs=asked), 400)["param"] == "top_logprobs"
    [choice] = complete(logprobs=most, echo=True, ignore_eos=True).json()["choices"]
    assert [len(top) for top in choice["logprobs"]["top_logprobs"][1:]] == [most or 1] * 3
    assert chat(top_logprobs=most).status_code == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(("bounds", "most"), [([20], 20), ([-1], 32), ([64, -1], 32), ([64, 5], 5)])
def test_the_smallest_bound_of_all_engines_counts_and_minus_one_is_the_vocabulary(bounds: list[int], most: int) -> None:
    engines: list[Any] = [
        SimpleNamespace(model_config=SimpleNamespace(max_logprobs=b, max_model_len=8, get_vocab_size=lambda: 32))
        for b in bounds
    ]
    assert bounds_of(*engines) == (8, 32, most)
