"""Reward model families: Decant's rewards of tiny random twins against each card's way of scoring, by Transformers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.support.tiny_models import CHAT
from tests.support.families.classifiers import CLASSIFIERS, ends_as_padded, logits
from tests.support.families.family import ANSWERS, CHATS, ENGINE, TEXTS, Family, Json, answered
from tests.support.families.reward_heads import REWARD_HEADS
from tests.support.families.unknown import UNKNOWN
from tests.support.reference import tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

FAMILIES = (*CLASSIFIERS, *REWARD_HEADS)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the twins, by the families' names, and of the policy's tokenizer."""
    root = tmp_path_factory.mktemp("families")
    ends_as_padded(CHAT).save_pretrained(root / "policy")
    for family in FAMILIES:
        family.make(root / family.name)
    for name, (make, _, _) in UNKNOWN.items():
        make(root / name)
    return root


@pytest.fixture(scope="module")
def scored(twins: Path) -> Json:
    """What Decant says of each twin."""
    specs = {family.name: (family.settings, family.engine) for family in FAMILIES}
    specs |= {name: ({"kind": "classifier"}, engine) for name, (_, engine, _) in UNKNOWN.items()}
    rewards = {
        name: {**settings, "model": str(twins / name), "engine": {**ENGINE, **engine}}
        for name, (settings, engine) in specs.items()
    }
    job, result, log = (twins / name for name in ("job.json", "result.json", "log"))
    job.write_text(json.dumps({"policy": str(twins / "policy"), "rewards": rewards}))
    command = [sys.executable, "-m", "tests.support.families.scoring", str(job), str(result)]
    # Engines that are bound to one core, as by default, would wait for other engines of this machine.
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("w") as out:
        environment = {**os.environ, **quiet, "HF_HOME": str(twins / "cache")}
        done = subprocess.run(command, stdout=out, stderr=out, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, log.read_text()[-3000:]
    found: Json = json.loads(result.read_text())
    return found


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_a_reward_is_what_the_card_computes(family: Family, twins: Path, scored: Json) -> None:
    path = twins / family.name
    expected = [[family.score(path, answered(chat, answer)) for answer in ANSWERS] for chat in CHATS]
    assert len({round(score, 3) for scores in expected for score in scores}) >= len(ANSWERS), (
        "the twin tells them apart"
    )
    assert "error" not in scored[family.name], scored[family.name]["error"]
    got = scored[family.name]["chats"]
    assert got == [pytest.approx(scores, abs=1e-4) for scores in expected]


def test_padding_that_ends_an_answer_is_not_read(twins: Path, scored: Json) -> None:
    """Transformers takes the token that ends an answer for padding, if it is the padding token, and reads the last."""
    words = ends_as_padded()
    ids = [*words.encode(TEXTS[0]), *words.encode(TEXTS[1])]
    padded = logits(twins / "gpt2", input_ids=[*ids, words.eos_token_id])[0]
    assert float(padded) == pytest.approx(float(logits(twins / "gpt2", input_ids=ids)[0]), abs=1e-6)
    assert scored["gpt2"]["text"] == pytest.approx(float(padded), abs=1e-4)


def test_score_compares_two_texts_with_their_token_types(twins: Path, scored: Json) -> None:
    path = twins / "bert_pair"
    assert scored["bert_pair"]["raw"] == [pytest.approx(float(logits(path, **tokenizer(path)(*TEXTS))[0]), abs=1e-4)]
    assert scored["qwen_rm"]["raw"] is None


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_model_without_a_reward_head_in_vllm_is_refused_with_what_to_use(
    name: str, twins: Path, scored: Json
) -> None:
    error = scored[name]["error"]
    assert error.startswith(f"{UNKNOWN[name][2]} of '{twins / name}': serve it by a server of its own"), error
    assert len(error) < 400
