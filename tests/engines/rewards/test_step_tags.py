"""What a process reward model reads, against Transformers by hand: where tags are put, and which of them count."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from decoders.core import Prompt, Tokens
from decoders.errors import RewardFailed
from evaluation.support.tiny_models import CORPUS, STEP
from server.engines.rewards.reward_text import RewardText
from server.engines.rewards.step_tags import StepTagger, TaggedTokens
from server.engines.text import Chat
from server.engines.text.model_text import ModelText
from server.settings import ProcessReward, SettingsError, Template
from tests.support.templates import BEGUN, CLOSED, MARKED, made

SAID = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "How much wood?"}]
LINES = "A good dog.\n\nHow much?\n none"
TAGGED = f"A good dog.{STEP}How much?{STEP} none{STEP}"


def words(fast: Any) -> ModelText:
    return ModelText(fast, 1024, len(fast))


def read(
    reward: Any,
    prompt: Prompt,
    completion: str,
    *,
    tag: str = STEP,
    separator: str = "\n",
    template: Template | None = None,
    policy: Any = None,
) -> TaggedTokens:
    settings = ProcessReward(model="judge", step_tag=tag, step_separator=separator)
    reading = RewardText("judge", template, words(reward), words(policy or made(MARKED)))
    return asyncio.run(StepTagger(settings, words(reward)).encode(reading, prompt, completion))


def chat(*messages: dict[str, str], continues: bool = False) -> Prompt:
    """A chat, as another template than the reward's has it."""
    return Prompt((7, 8), "the policy's own rendering: ", tuple(messages or SAID), continues)


def card(reward: Any, answer: str, *said: dict[str, str]) -> Tokens:
    """A chat as the model's card reads it, tags written into the answer."""
    messages = [*(said or SAID), {"role": "assistant", "content": answer}]
    ids: list[int] = reward.apply_chat_template(messages, tokenize=True, return_dict=False)
    return tuple(ids)


def encoded(fast: Any, text: str, **how: Any) -> Tokens:
    return tuple(fast.encode(text, add_special_tokens=False, **how))


def places(tokens: Tokens, token: int) -> tuple[int, ...]:
    return tuple(i for i, t in enumerate(tokens) if t == token)


def tag_of(fast: Any) -> int:
    [tag] = encoded(fast, STEP)
    return tag


@pytest.mark.parametrize("template", [MARKED, BEGUN, CLOSED], ids=["marked", "begins", "closes"])
def test_a_chat_is_read_as_the_models_card_reads_it(template: str) -> None:
    """The templates hold the separator themselves, which is no step."""
    reward = made(template, begins=True)
    tokens = card(reward, TAGGED)
    assert read(reward, chat(), LINES) == TaggedTokens(tokens, places(tokens, tag_of(reward)))
    assert len(places(tokens, tag_of(reward))) == 3


@pytest.mark.parametrize(
    ("completion", "tagged"),
    [
        ("one", f"one{STEP}"),
        ("one\n", f"one{STEP}"),
        ("\n\n one\n \n\t\ntwo\n\n", f" one{STEP}two{STEP}"),
        ("one\ntw", f"one{STEP}tw{STEP}"),
    ],
)
def test_blank_steps_are_none_and_an_unfinished_one_is_closed_too(completion: str, tagged: str) -> None:
    reward = made(MARKED)
    tokens = card(reward, tagged)
    assert read(reward, chat(), completion) == TaggedTokens(tokens, places(tokens, tag_of(reward)))


@pytest.mark.parametrize("completion", ["", "\n", " \n\t\n"])
def test_without_a_step_there_is_nothing_to_score(completion: str) -> None:
    assert read(made(MARKED), chat(), completion) == TaggedTokens((), ())
    assert read(made(MARKED), Prompt((1,), f"one{STEP}"), completion) == TaggedTokens((), ())


def test_a_text_follows_its_prompt_and_special_tokens_stand_at_its_two_ends() -> None:
    prompt = Prompt((7, 8), "The quick")
    for begins in (False, True):
        for ends in (False, True):
            reward = made(None, begins=begins, ends=ends)
            tokens = tuple(reward.encode(f"The quick{TAGGED}"))
            assert read(reward, prompt, LINES) == TaggedTokens(tokens, places(tokens, tag_of(reward)))
            assert (tokens[0] == 0, tokens[-1] == 1) == (begins, ends)


def test_a_tag_in_the_prompt_is_no_step() -> None:
    reward = made(MARKED)
    said = {"role": "user", "content": f"Say {STEP} or{STEP}."}
    tokens = card(reward, TAGGED, said)
    ends = places(tokens, tag_of(reward))
    assert len(ends) == 5
    assert read(reward, chat(said), LINES) == TaggedTokens(tokens, ends[2:])
    plain = made(None)
    tokens = tuple(plain.encode(f"Say {STEP} or{STEP}.{TAGGED}"))
    got = read(plain, Prompt((1,), f"Say {STEP} or{STEP}."), LINES)
    assert got == TaggedTokens(tokens, places(tokens, tag_of(plain))[2:])


@pytest.mark.parametrize("template", [None, MARKED, CLOSED], ids=["none", "marked", "closes"])
def test_a_tag_that_the_model_wrote_itself_is_text_and_no_step(template: str | None) -> None:
    reward = made(template)
    tag = tag_of(reward)
    first, second = f"see {STEP} here", f"{STEP}{STEP}"
    head, tail = "The quick", ""
    if template is not None:
        head, tail = reward.apply_chat_template([*SAID, {"role": "assistant", "content": "CUT"}], tokenize=False).split(
            "CUT"
        )
    tokens: Tokens = encoded(reward, head)
    ends = []
    for step in (first, second, "end"):
        tokens += encoded(reward, step, split_special_tokens=True)
        ends.append(len(tokens))
        tokens += (tag,)
    tokens += encoded(reward, tail)
    prompt = Prompt((1,), head) if template is None else chat()
    assert read(reward, prompt, f"{first}\n{second}\nend") == TaggedTokens(tokens, tuple(ends))
    assert places(tokens, tag) == tuple(ends)
    assert tag_of(reward) == tag, "the tokenizer itself still knows its special tokens"


def test_a_tag_of_ordinary_text_is_put_where_it_would_merge_with_the_step() -> None:
    """Written out, the tag is read into a longer token, or taken for one where there is none."""
    reward = made(None)
    [tag] = encoded(reward, "o")
    prompt, steps = Prompt((1,), "How"), (" much wo", "od", " fox o")
    whole = encoded(reward, "How much wooodo fox oo")
    tokens: Tokens = encoded(reward, "How much wo")
    ends = [len(tokens)]
    tokens += (tag, *encoded(reward, "od"))
    ends.append(len(tokens))
    tokens += (tag, *encoded(reward, " fox o"))
    ends.append(len(tokens))
    tokens += (tag,)
    got = read(reward, prompt, "\n".join(steps), tag="o")
    assert got == TaggedTokens(tokens, tuple(ends))
    assert (tokens, places(tokens, tag)) != (whole, tuple(ends))


def metaspace(*, special: bool) -> Any:
    """A tokenizer that writes a text's beginning as if a space came before it, as Llama 2's and Mistral's."""
    from tokenizers import Tokenizer, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=False))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokens = ["<unk>", "<s>", "</s>", *([STEP] if special else [])]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=tokens, show_progress=False)
    made.train_from_iterator([*CORPUS, " + +" * 50], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(("tag", "space"), [(STEP, ""), ("+", " ")])
def test_a_step_behind_a_tag_is_read_as_in_one_piece(tag: str, space: str) -> None:
    reward = metaspace(special=tag == STEP)
    steps = ["The quick fox", "\njumps over", "\n the lazy dog."]
    whole = "A good answer" + "".join(f"{step}{space}{tag}" for step in steps)
    tokens = encoded(reward, whole)
    [id_] = encoded(reward, tag)
    got = read(reward, Prompt((1,), "A good answer"), "|".join(steps), tag=tag, separator="|")
    assert got == TaggedTokens(tokens, places(tokens, id_))
    assert len(got.ends) == 3


def test_a_turn_that_the_prompt_began_is_one_turn_and_its_own_steps_do_not_count() -> None:
    reward = made(MARKED)
    prefix = {"role": "assistant", "content": "one\ntw"}
    tokens = card(reward, f"one{STEP}two{STEP}three{STEP}")
    ends = places(tokens, tag_of(reward))
    assert read(reward, chat(*SAID, prefix, continues=True), "o\nthree") == TaggedTokens(tokens, ends[1:])
    for completion in ("", "\n", " \n"):
        assert read(reward, chat(*SAID, prefix, continues=True), completion).ends == ()
    closed = read(reward, chat(*SAID, prefix, continues=True), "\nthree")
    tokens = card(reward, f"one{STEP}tw{STEP}three{STEP}")
    assert closed == TaggedTokens(tokens, places(tokens, tag_of(reward))[2:])


def test_by_the_policys_template_a_prompt_is_read_as_it_is() -> None:
    reward = made(MARKED)
    prompt = asyncio.run(words(reward).chat(Chat(tuple(SAID))))
    tokens = encoded(reward, prompt.text + TAGGED)
    got = read(reward, prompt, LINES, template="policy", policy=made(MARKED))
    assert got == TaggedTokens(tokens, places(tokens, tag_of(reward)))
    said = encoded(reward, f"Be kind.\nHow much wood?\n{TAGGED}")
    assert read(reward, prompt, LINES, template="none") == TaggedTokens(said, places(said, tag_of(reward)))


@pytest.mark.parametrize("said", ["[step 0:0]", "[step 0:] [step 1:0]", "[step", "[step 0:0"])
def test_no_text_is_taken_for_where_a_tag_belongs(said: str) -> None:
    reward = made(MARKED)
    tokens = card(reward, f"{said}{STEP}{said}{said}{STEP}", {"role": "user", "content": said})
    got = read(reward, chat({"role": "user", "content": said}), f"{said}\n{said}{said}")
    assert got == TaggedTokens(tokens, places(tokens, tag_of(reward)))


def test_a_step_that_the_template_leaves_out_has_no_score() -> None:
    """As templates do with what comes before the end of thinking."""
    reward = made("{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}{% endfor %}")
    got = read(reward, chat(), "so\n or so</think>\nfirst\nsecond")
    tokens = encoded(reward, f"<system>Be kind.<user>How much wood?<assistant>{STEP}first{STEP}second{STEP}")
    assert got == TaggedTokens(tokens, places(tokens, tag_of(reward)))


def test_a_tag_must_be_one_token() -> None:
    with pytest.raises(SettingsError, match="step_tag 'two words' is not one token of reward model 'judge'"):
        read(made(None), chat(), "a", tag="two words")


def test_scores_are_taken_at_the_completions_tags_of_whatever_rows_come() -> None:
    reward = made(MARKED)
    said = {"role": "user", "content": STEP}
    tagged = read(reward, chat(said), "a\nb")
    steps = StepTagger(ProcessReward(model="judge", step_tag=STEP), words(reward))
    assert steps.step_scores([float(i) for i in range(len(tagged.tokens))], tagged) == [float(i) for i in tagged.ends]
    assert steps.step_scores([10.0, 11.0, 12.0], tagged) == [11.0, 12.0]
    for rows in ([], [10.0], [0.0] * 4):
        with pytest.raises(RewardFailed, match=f"gave {len(rows)} scores for {len(tagged.tokens)} tokens, 3 of which"):
            steps.step_scores(rows, tagged)
    assert steps.step_scores([1.0, 2.0], replace(tagged, tokens=(steps.tag,) * 2, ends=(1,))) == [2.0]
