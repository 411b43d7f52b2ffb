"""The toy with words that are parts of characters, and stop strings: what an engine's answers look like."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace

from decoders.core import Alternative, Candidate, Policy, Prompt, Rng, Sampling, TokenLogprob, join
from server.engines.toy import ToyPolicy, ToyText
from tests.support.delegating import DelegatingPolicy
from tests.support.watched import GUIDES

SPELLED = (b"", b" go\xe6", b"\x97\xa5", b" EN", b"D.")


@dataclass
class Spelling(DelegatingPolicy):
    """Draws as the toy does, and says other words; it knows the prompt's log-probabilities, which are minus its ids."""

    inner: Policy = field(default_factory=lambda: ToyPolicy(loaded=GUIDES, longest=10))

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, rng: Rng, *, pieces: bool = False
    ) -> AsyncGenerator[tuple[int, Candidate]]:
        words = [f" {word}" for word in prompt.text.split()]
        known = [_known(t, word) for t, word in zip(prompt.tokens, words, strict=True)]
        asked = sampling.prompt_logprobs is not None
        drawn: dict[int, list[Candidate]] = {}
        async for i, piece in self.inner.sample(prompt, n, replace(sampling, stop=()), rng, pieces=True):
            drawn.setdefault(i, []).append(piece)
        for i, parts in drawn.items():
            spelled = _spelled(parts, sampling)
            spelled[0] = replace(spelled[0], prompt_logprobs=(None, *known[1:]) if asked else None)
            for part in spelled if pieces else [join(spelled)]:
                yield i, part


def _spelled(parts: list[Candidate], sampling: Sampling) -> list[Candidate]:
    """The same pieces with other words, the text of each held back as long as it may be the start of a stop string."""
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
    """What the bytes say, and nothing while they end inside a character, as engines have it."""
    text = data.decode(errors="replace")
    return "" if text.endswith("\ufffd") else text


class SpellingText(ToyText):
    def check(self, sampling: Sampling) -> None:
        """Everything goes."""
