"""Presets: strategies that a client asks for by the name of a model, by a header, or by asking for nothing."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from decoders import BestOfN, Controlled, Sample
from server.loading import toy
from server.runtime.presets import Presets, offered
from server.settings import ServerSettings, SettingsError
from server.settings.presets import SHIPPED
from tests.support.serving import Api, Json, ok, refused, serving

OWN = {"careful": BestOfN(n=3, reward="brevity"), "blocks": Controlled(candidates=2)}
BODY: Json = {"prompt": "good", "max_tokens": 4, "seed": 5}
CHAT: Json = {"messages": [{"role": "user", "content": "good"}], "max_tokens": 4, "seed": 5}
ASKED: list[tuple[Json, dict[str, str]]] = [({"model": "toy:careful"}, {}), ({}, {"X-Decant-Preset": "careful"})]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with serving(toy(), Presets(OWN)) as api:
        yield api


@pytest.fixture(scope="module")
def defaulting() -> Iterator[Api]:
    with serving(toy(), Presets(OWN, "careful")) as api:
        yield api


def answer(api: Api, path: str, body: Json, headers: dict[str, str] | None = None) -> Json:
    return ok(api.post(path, body, headers=headers or {}))


@pytest.mark.parametrize(("path", "body"), [("completions", BODY), ("chat/completions", CHAT)])
@pytest.mark.parametrize(("field", "header"), ASKED, ids=["model", "header"])
def test_a_preset_is_its_decoding(api: Api, path: str, body: Json, field: Json, header: dict[str, str]) -> None:
    meant = answer(api, path, {**body, "decoding": {"strategy": "best_of_n", "n": 3, "reward": "brevity"}})
    made = answer(api, path, {**body, **field}, header)
    assert made["choices"] == meant["choices"]
    assert made["decoding"]["results"] == meant["decoding"]["results"]
    assert made["model"] == field.get("model", "toy")


def test_decoding_overrides_field_by_field(api: Api) -> None:
    made = answer(
        api, "completions", {**BODY, "model": "toy:careful", "decoding": {"n": 2, "return_kl": True, "reward": None}}
    )
    report = made["decoding"]
    assert report["strategy"] == "best_of_n"
    assert report["cost"]["candidates"] == 2
    assert list(report["results"][0]["rewards"]) == ["brevity"]
    assert report["results"][0]["kl"] is not None
    assert answer(api, "completions", {**BODY, "model": "toy:careful"})["decoding"]["cost"]["candidates"] == 3


@pytest.mark.parametrize(
    ("more", "header", "field", "words"),
    [
        ({"model": "toy:careful", "decoding": {"strategy": "sample"}}, None, "decoding.strategy", "the model 'toy'"),
        ({"model": "toy:careful", "decoding": {"n": 0}}, None, "decoding.n", "greater"),
        ({"model": "toy:careful", "decoding": {"beams": 2}}, None, "decoding.beams", "no such field"),
        ({"model": "toy:careful", "decoding": 3}, None, "decoding", "object"),
        ({}, "swift", "X-Decant-Preset", "careful, blocks"),
        ({"model": "toy:blocks"}, "careful", "X-Decant-Preset", "'blocks'"),
    ],
)
def test_what_cannot_be_meant_is_refused(api: Api, more: Json, header: str | None, field: str, words: str) -> None:
    headers = {"X-Decant-Preset": header} if header else {}
    error = refused(api.post("completions", {**BODY, **more}, headers=headers), 400)
    assert error["param"] == field
    assert words.lower() in error["message"].lower()


@pytest.mark.parametrize("model", ["toy:swift", "careful", "toy:", "other:careful"])
def test_another_name_is_no_model(api: Api, model: str) -> None:
    error = refused(api.post("completions", {**BODY, "model": model}), 404)
    assert error["code"] == "model_not_found"
    assert "'toy:careful'" in error["message"]


def test_the_same_preset_twice_is_one(api: Api) -> None:
    assert answer(api, "completions", {**BODY, "model": "toy:careful"}, {"X-Decant-Preset": "careful"})["decoding"]


def test_without_a_preset_nothing_changes(api: Api) -> None:
    made = answer(api, "completions", {**BODY, "model": "toy"})
    assert "decoding" not in made
    assert made["model"] == "toy"


def test_a_default_preset_is_for_requests_that_ask_for_nothing(defaulting: Api) -> None:
    assert answer(defaulting, "completions", BODY)["decoding"]["cost"]["candidates"] == 3
    assert answer(defaulting, "completions", {**BODY, "decoding": None})["decoding"]["cost"]["candidates"] == 3
    plain = answer(defaulting, "completions", {**BODY, "decoding": {"strategy": "sample"}})
    assert plain["decoding"]["strategy"] == "sample"
    other = answer(defaulting, "completions", {**BODY, "model": "toy:blocks"})
    assert other["decoding"]["strategy"] == "controlled"


def test_models_have_a_card_for_each_preset(api: Api) -> None:
    cards = ok(api.http.get("/v1/models"))["data"]
    assert [card["id"] for card in cards] == ["toy", "toy:careful", "toy:blocks"]
    assert cards[0].get("decoding") is None
    card = cards[1]
    assert card["decoding"] == {"strategy": "best_of_n", "reward": "brevity", "n": 3}
    assert (card["root"], card["parent"]) == ("toy", "toy")
    assert card["law"].startswith("Law, with")
    assert "KL" in card["law"]
    assert ok(api.http.get("/v1/models/toy:careful")) == card
    refused(api.http.get("/v1/models/toy:swift"), 404)


def test_an_unmodified_client_uses_one(api: Api) -> None:
    client = openai.OpenAI(base_url=f"{api.url}/v1", api_key="none")
    names = [model.id for model in client.models.list()]
    made = client.chat.completions.create(model=names[1], messages=[{"role": "user", "content": "good"}], max_tokens=4)
    assert made.model == "toy:careful"
    assert (made.model_extra or {})["decoding"]["strategy"] == "best_of_n"


def test_shipped_presets_run(api: Api) -> None:
    models = api.server.state.loaded.models
    found = offered({}, None, models, ServerSettings(), shipped=True)
    assert found.named.keys() == SHIPPED.keys()
    with serving(toy(), found) as shipped:
        for name, fields in SHIPPED.items():
            made = answer(shipped, "chat/completions", {**CHAT, "model": f"toy:{name}"})
            assert made["decoding"]["strategy"] == fields["strategy"], name


def test_a_shipped_preset_that_the_models_cannot_run_is_not_offered() -> None:
    loaded = toy()
    models = type(loaded.models)(loaded.models.policy)
    assert list(offered({}, None, models, ServerSettings(), shipped=True).named) == ["majority-16"]
    with pytest.raises(SettingsError, match="default_preset: the shipped preset 'dvts' cannot run here: Name a reward"):
        offered({}, "dvts", models, ServerSettings(), shipped=True)


@pytest.mark.parametrize(
    ("preset", "line"),
    [
        (BestOfN(reward="helpful"), "presets.mine.reward: The reward 'helpful' is not loaded"),
        (Sample(guides={"kid": 1.0}), "presets.mine.guides: The guide 'kid' is not loaded"),
        (BestOfN(n=256, proposal=BestOfN(n=256)), "presets.mine"),
        (BestOfN(stop_at=1.0, select={"by": "argmin"}), "presets.mine.stop_at: "),
    ],
)
def test_a_preset_that_cannot_run_stops_the_start(preset: Any, line: str) -> None:
    with pytest.raises(SettingsError, match=line.replace(".", r"\.")):
        offered({"mine": preset}, None, toy().models, ServerSettings(max_candidates=100), shipped=False)
