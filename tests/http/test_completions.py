"""POST /v1/completions on the toy: prompts, choices, lengths, seeds and log-probabilities."""

import math

import openai
import pytest

from decoders.testing import WORDS, ToyPolicy
from server.engines.toy_text import ToyText
from server.loading import toy
from tests.support.fakes import world
from tests.support.serving import Api, refused, serving, texts


@pytest.mark.parametrize(
    ("prompt", "count", "tokens"),
    [("good bad", 1, 2), (["good", "bad odd"], 2, 3), ([1, 2], 1, 2), ([[1], [2, 4]], 2, 3)],
    ids=["text", "texts", "token ids", "lists of token ids"],
)
def test_a_prompt_has_four_forms(api: Api, prompt: object, count: int, tokens: int) -> None:
    body = api.complete(prompt)
    assert body["object"] == "text_completion"
    assert body["model"] == "toy"
    assert body["id"].startswith("cmpl-")
    assert [choice["index"] for choice in body["choices"]] == list(range(count))
    assert body["usage"]["prompt_tokens"] == tokens


def test_text_and_its_token_ids_are_the_same_prompt(api: Api) -> None:
    assert texts(api.complete("good odd", n=8, seed=3)) == texts(api.complete([1, 4], n=8, seed=3))


def test_choices_follow_the_prompts_n_of_each(api: Api) -> None:
    prompts = ["good", "bad", "odd odd"]
    body = api.complete(prompts, n=2, echo=True)
    assert [choice["index"] for choice in body["choices"]] == list(range(6))
    for choice in body["choices"]:
        assert choice["text"].startswith(prompts[choice["index"] // 2])


@pytest.mark.parametrize("strategy", ["sample", "best_of_n"])
def test_a_seed_makes_the_answer_reproducible(api: Api, strategy: str) -> None:
    def ask(seed: int) -> list[str]:
        return texts(api.complete(["good", "good"], seed=seed, n=4, decoding={"strategy": strategy}))

    assert ask(7) == ask(7)
    assert len({tuple(ask(seed)) for seed in range(5)}) > 1
    assert ask(7)[:4] != ask(7)[4:], "equal prompts of one request are drawn apart"


def test_without_a_seed_answers_differ(api: Api) -> None:
    assert len({tuple(texts(api.complete(n=8))) for _ in range(4)}) > 1


def test_max_tokens_cuts_and_is_sixteen_by_default(api: Api) -> None:
    short = api.complete(max_tokens=1, n=32, seed=1)
    assert {choice["finish_reason"] for choice in short["choices"]} == {"stop", "length"}
    assert short["usage"] == {"prompt_tokens": 1, "completion_tokens": 32, "total_tokens": 33}
    assert {choice["finish_reason"] for choice in api.complete(n=8)["choices"]} == {"stop"}


def test_logprobs_are_the_models_and_offsets_count_characters(api: Api) -> None:
    for choice in api.complete("good", n=8, logprobs=2, temperature=0.5)["choices"]:
        logprobs = choice["logprobs"]
        tokens = [WORDS.index(t) for t in logprobs["tokens"]]
        assert "".join(logprobs["tokens"]) == choice["text"]
        for i, token in enumerate(tokens):
            law = ToyPolicy().logprobs((1,), tuple(tokens[:i]))
            assert logprobs["token_logprobs"][i] == pytest.approx(law[token])
            likeliest = sorted((v for v in law if v > -math.inf), reverse=True)[:2]
            have = list(logprobs["top_logprobs"][i].values())
            assert have[:2] == pytest.approx(likeliest)
            assert have[2:] in ([], [logprobs["token_logprobs"][i]])  # what was drawn is always among them
            assert logprobs["top_logprobs"][i][WORDS[token]] == logprobs["token_logprobs"][i]
            assert logprobs["text_offset"][i] == len("".join(logprobs["tokens"][:i]))


def test_there_are_no_logprobs_unless_asked_for(api: Api) -> None:
    assert api.complete()["choices"][0]["logprobs"] is None
    logprobs = api.complete(logprobs=0)["choices"][0]["logprobs"]
    drawn = zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
    assert logprobs["top_logprobs"] == [{token: logprob} for token, logprob in drawn]


class Few(ToyText):
    """The toy, as an engine whose `max_logprobs` is small would be."""

    max_logprobs = 2


def test_more_logprobs_than_the_model_reports_are_refused_by_name() -> None:
    with serving(world(text=Few())) as few, serving(toy()) as api:
        for client, most in ((few, 2), (api, len(WORDS))):
            assert client.complete(logprobs=most)["choices"][0]["logprobs"]
            error = refused(client.post("completions", {"prompt": "odd", "logprobs": most + 1}), 400)
            assert (error["param"], str(most) in error["message"]) == ("logprobs", True)
            messages = [{"role": "user", "content": "odd"}]
            chat = {"messages": messages, "logprobs": True, "top_logprobs": most + 1}
            error = refused(client.post("chat/completions", chat), 400)
            assert (error["param"], str(most) in error["message"]) == ("top_logprobs", True)


def test_the_openai_client_reads_a_completion(api: Api) -> None:
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key="any")
    whole = client.completions.create(model="toy", prompt="good", n=2, seed=4, extra_body={"top_k": 2})
    chunks = list(
        client.completions.create(
            model="toy", prompt="good", n=2, seed=4, stream=True, stream_options={"include_usage": True},
            extra_body={"top_k": 2},
        )
    )  # fmt: skip
    for index, choice in enumerate(whole.choices):
        pieces = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
        assert "".join(piece.text for piece in pieces) == choice.text
        assert [piece.finish_reason for piece in pieces if piece.finish_reason] == [choice.finish_reason]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
