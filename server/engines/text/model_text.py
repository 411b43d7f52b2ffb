"""A model's tokenizer, as Transformers wrote it and vLLM loaded it."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from decoders.core import Candidate, Prompt, Sampling, Tokens
from decoders.errors import InvalidRequest
from decoders.reply import with_objects
from server.engines.text.continued import as_rendered, to_render
from server.engines.text.long_texts import LONG, TokenizerThread, decoded, token_ids
from server.engines.text.protocol import Chat, Message
from server.engines.text.token_bytes import TokenBytes

CONTEXT = 8  # last tokens of a prompt, among which there is a whole character before an incomplete one
MAX_CHARACTER_BYTES = 4  # in UTF-8
REPLACEMENT = "�"  # what incomplete bytes decode to
MESSAGE = 16  # characters of a text that take as long as a chat template takes for a message


class ModelText:
    """A tokenizer, used in the event loop, and a copy of it in the thread for long texts."""

    def __init__(
        self,
        tokenizer: Any,
        max_model_len: int,
        vocab_size: int,
        max_logprobs: int = 20,
        chat_template: str | None = None,
        template_values: Mapping[str, Any] | None = None,
    ) -> None:
        """Args:
        tokenizer: vLLM's or Transformers'.
        vocab_size: The number of the model's logits, which may be more than the tokenizer has tokens.
        max_logprobs: The engine's bound.
        chat_template: In place of the tokenizer's own.
        template_values: What chat templates are given beside the messages.
        """
        self.tokenizer = tokenizer
        self._thread = TokenizerThread(tokenizer, max_model_len)
        self.max_model_len = max_model_len
        self.vocab_size = vocab_size
        self.max_logprobs = min(max_logprobs, vocab_size)
        self._chat_template = chat_template
        self._template_values = dict(template_values or {})
        self.priorities = False

    @cached_property
    def token_bytes(self) -> TokenBytes:
        return TokenBytes(self.tokenizer)

    @property
    def has_chat_template(self) -> bool:
        return bool(self._template)

    @property
    def template_knows_calls(self) -> bool:
        """Whether the chat template shows the calls of tools that messages have."""
        return "tool_calls" in str(self._template)

    @property
    def _template(self) -> Any:
        return self._chat_template or getattr(self.tokenizer, "chat_template", None)

    async def encode(self, text: str, *, special: bool = True, cut: bool = False) -> Prompt:
        tokens = await self.encoded(text, special=special, field="prompt", cut=cut)
        return Prompt(self._without_second_head(tokens) if special else tokens, text)

    async def given(self, tokens: Sequence[int]) -> Prompt:
        shown = tokens[len(self._head) :] if self._has_head(tokens) else tokens
        if len(shown) < LONG:
            return Prompt(tuple(tokens), self.decode(shown))
        return Prompt(tuple(tokens), await self._thread.text(shown))

    async def chat(self, chat: Chat) -> Prompt:
        """Return a chat as the template renders it; the tokenizer alone knows no tools and parses no answers."""
        if chat.options:
            name = next(iter(chat.options))
            raise InvalidRequest(f"This model's tokenizer does not support '{name}'.", name)
        shown = to_render(chat)
        text = await self._rendered_chat(shown)
        tokens = await self.encoded(text, special=False, field="messages", cut=chat.cut)
        return Prompt(tokens, text, as_rendered(chat, text), chat.turn == "continued")

    async def completion(self, text: str, *, ended: bool) -> Candidate:
        eos = self.tokenizer.eos_token_id
        tokens = await self.encoded(text, special=False, field="completions")
        return Candidate(tokens + ((eos,) if ended and eos is not None else ()), text, "stop" if ended else "length")

    def decode(self, tokens: Sequence[int]) -> str:
        return decoded(self.tokenizer, tokens)

    def token_strs(self, tokens: Sequence[int]) -> list[str]:
        return [str(token) for token in self.tokenizer.convert_ids_to_tokens(list(tokens))]

    def incomplete(self, tokens: Tokens) -> int:
        """Return how many of the last tokens hold the first bytes of a character that they do not complete."""
        end = tokens[-CONTEXT:]
        if not self.decode(end).endswith(REPLACEMENT):
            return 0
        # By their bytes: some decoders take a whole run of bytes for incomplete if the last of them is.
        data = [self.token_bytes.raw(token) for token in end]
        lengths = range(min(MAX_CHARACTER_BYTES, len(end) + 1))
        texts = [b"".join(data[: len(data) - n]).decode(errors="replace") for n in lengths]
        return next((n for n, text in enumerate(texts) if not text.endswith(REPLACEMENT)), 0)

    def offsets(self, prompt: Prompt) -> list[tuple[int, int]] | None:
        """Return where each of a prompt's tokens begins and ends in its text, or None if the tokenizer cannot say."""
        if not self.tokenizer.is_fast:
            return None
        found = self.tokenizer(prompt.text, return_offsets_mapping=True, add_special_tokens=True)
        added = len(found["input_ids"]) - len(prompt.tokens)  # special tokens that the text has itself: see `read`
        same = added >= 0 and tuple(found["input_ids"][added:]) == prompt.tokens
        return list(found["offset_mapping"][added:]) if same else None

    def render(
        self,
        messages: Sequence[Message],
        *,
        reply: bool = True,
        continued: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Return the chat as text, open for the assistant's turn if `reply`, or inside its last turn if `continued`.

        Raises `InvalidRequest` if the model has no chat template, or if its template refuses the messages.
        """
        if not self.has_chat_template:
            raise InvalidRequest("This model has no chat template: use /v1/completions.", "messages")
        try:
            rendered = self.tokenizer.apply_chat_template(
                with_objects(messages, always=True),
                tools=list(tools) or None,
                chat_template=self._chat_template,
                tokenize=False,
                add_generation_prompt=reply,
                continue_final_message=continued,
                **self._template_values,
            )
        except Exception as error:  # a template raises whatever its author chose
            raise InvalidRequest(f"The chat template refuses these messages: {error}", "messages") from error
        return str(rendered)

    def tokens(self, text: str, *, special: bool) -> Tokens:
        """Return the text's token ids, with those that the tokenizer adds by itself if `special`."""
        return token_ids(self.tokenizer, text, special=special)

    def tokens_as_words(self, text: str) -> Tokens:
        """Return the text's token ids, the names of special tokens read as ordinary words where that is possible."""
        try:
            return tuple(self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
        except TypeError:  # a tokenizer that has no such option
            return self.tokens(text, special=False)

    async def read(self, text: str, *, special: bool) -> Tokens:
        """Return the text's token ids. With `special`, the tokenizer's own too, but none that the text begins with."""
        tokens = await self.encoded(text, special=special)
        return self._without_second_head(tokens) if special else tokens

    async def read_open(self, text: str, *, special: bool) -> tuple[Tokens, Tokens]:
        """Return the token ids of a text that others will follow, and those that end the text as a whole."""
        tokens = await self.read(text, special=special)
        after = self.added[1] if special else ()
        return (tokens[: -len(after)], after) if after and tokens[-len(after) :] == after else (tokens, ())

    def without_added_tokens(self, prompt: Prompt) -> str:
        """Return the prompt's text without the special tokens that this tokenizer adds, if the text has them."""
        written = self.decode(self._head)
        return prompt.text.removeprefix(written) if self._has_head(prompt.tokens) else prompt.text

    @cached_property
    def added(self) -> tuple[Tokens, Tokens]:
        """The special tokens that the tokenizer puts before a text and after it."""
        bare, whole = self.tokens("a", special=False), self.tokens("a", special=True)
        starts = (i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return next(((whole[:i], whole[i + len(bare) :]) for i in starts), ((), ()))

    def check(self, sampling: Sampling) -> None:
        for name in ("logit_bias", "stop_token_ids", "allowed_token_ids"):
            wrong = [t for t in getattr(sampling, name) or () if not 0 <= t < self.vocab_size]
            if wrong:
                raise InvalidRequest(
                    f"Token ids {wrong[:5]} are outside the vocabulary of {self.vocab_size} tokens.", f"sampling.{name}"
                )

    def same_tokens(self, other: "ModelText") -> bool:
        """Return whether the two provably map every text to the same ids, special tokens included."""
        own, others = self._rules, other._rules
        return own is not None and own == others

    @property
    def _rules(self) -> Any:
        """Everything that decides a fast tokenizer's ids; None for a slow one, which cannot say."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        rules = json.loads(backend.to_str())
        of_calls = {"truncation": None, "padding": None}  # arguments of the last call, and no rules
        return {**rules, **of_calls, "split": getattr(self.tokenizer, "split_special_tokens", False)}

    async def encoded(self, text: str, *, special: bool, field: str | None = None, cut: bool = False) -> Tokens:
        """Return a text's token ids; see `TokenizerThread.tokens`."""
        if len(text) < LONG:
            return self.tokens(text, special=special)
        return await self._thread.tokens(text, special=special, field=field, cut=cut)

    async def _rendered_chat(self, chat: Chat) -> str:
        def render() -> str:
            return self.render(chat.messages, reply=chat.turn == "new", continued=chat.turn == "continued")

        length = sum(MESSAGE + len(message["content"] or "") for message in chat.messages)
        return render() if length < LONG else await self._thread.run(render)

    @property
    def _head(self) -> Tokens:
        return self.added[0]

    def _has_head(self, tokens: Sequence[int]) -> bool:
        """Return whether tokens begin with those that the tokenizer puts before a text."""
        return tuple(tokens[: len(self._head)]) == self._head

    def _without_second_head(self, tokens: Tokens) -> Tokens:
        """Return a text's tokens without the ones put before it, if the text begins with them itself."""
        return tokens[len(self._head) :] if self._head and self._has_head(tokens[len(self._head) :]) else tokens
