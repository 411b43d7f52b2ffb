"""The toy with words that are parts of characters and with stop strings, as an engine's answers have them."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from decoders.core import Alternative, Candidate, Prompt, Rng, Sampling, TokenLogprob, join
from decoders.policy import Policy
from decoders.testing import GUIDES, DelegatingPolicy, ToyPolicy
from server.engines.toy_text import ToyText

SPELLED = (b"", b" go\xe6", b"\x97\xa5", b" EN", b"D.")


@dataclass
class Spelling(DelegatingPolicy):
    """The toy's draws with other words; the log-probability of a prompt's token is minus its id."""

    inner: Policy = field(default_factory=lambda: ToyPolicy(loaded=GUIDES, longest=10))

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        words = [f" {word}" for word in prompt.text.split()]
        known = [_known(t, word) for t, word in zip(prompt.tokens, words, strict=True)]
        scores_prompt = sampling.prompt_logprobs is not None
        drawn: dict[int, list[Candidate]] = {}
        async for i, piece in self.inner.sample(prompt, n, replace(sampling, stop=()), rng, pieces=True):
            drawn.setdefault(i, []).append(piece)
        for i, parts in drawn.items():
            spelled = _spelled(parts, sampling)
            spelled[0] = replace(spelled[0], prompt_logprobs=(None, *known[1:]) if scores_prompt else None)
            for part in spelled if pieces else [join(spelled)]:
                yield i, part


def _spelled(parts: list[Candidate], sampling: Sampling) -> list[Candidate]:
    """Return the same pieces with other words; text that may be the start of a stop string is held back."""
    hold = 0 if sampling.include_stop_str_in_output else max(map(len, sampling.stop), default=1) - 1
    made: list[Candidate] = []
    said = sent = ""
    open_ = b""
    for part in parts:
        [token] = part.tokens or (0,)
        open_ += SPELLED[token]
        text = _whole(open_)
        logprobs = tuple(_worded(entry, text) for entry in part.logprobs or ())
        said, open_ = said + text, b"" if text else open_
        ends = [(said.index(stop) + len(stop), stop) for stop in sampling.stop if stop in said]
        if ends:
            end, stop = min(ends)
            said = said[: end if sampling.include_stop_str_in_output else end - len(stop)]
            part = replace(part, finish="stop", stop=stop, trimmed=True)
        end = len(said) if part.finish else max(len(sent), len(said) - hold)
        made.append(replace(part, text=said[len(sent) : end], logprobs=None if part.logprobs is None else logprobs))
        sent = said[:end]
        if part.finish:
            break
    return made


def _known(token: int, word: str) -> TokenLogprob:
    return TokenLogprob(token, word, -float(token), top=(Alternative(token, word, -float(token)),))


def _worded(entry: TokenLogprob, text: str) -> TokenLogprob:
    others = tuple(replace(a, text=_whole(SPELLED[a.token]), raw=SPELLED[a.token]) for a in entry.top)
    return replace(entry, top=others).worded(text, SPELLED[entry.token])


def _whole(data: bytes) -> str:
    """Return the text of the bytes, or nothing while they end inside a character, as engines do."""
    text = data.decode(errors="replace")
    return "" if text.endswith("\ufffd") else text


class SpellingText(ToyText):
    def check(self, sampling: Sampling) -> None:
        """Everything goes."""
