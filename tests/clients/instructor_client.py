"""instructor: models by tools and by both JSON modes, sync, async and in part, and each way to a strategy."""

import asyncio
from contextlib import suppress
from functools import partial

import instructor
import openai
from asked import DECODING, HEADERS, MODEL, PRESET, QUESTION, URL, Review, assert_best_of_4
from instructor.core import IncompleteOutputException, InstructorRetryException
from pydantic import BaseModel


class Anything(BaseModel):
    """Any object."""


ASK = [{"role": "user", "content": QUESTION}]
ONE = {"response_model": Review, "messages": ASK, "max_tokens": 200, "max_retries": 1}
SCHEMA = instructor.Mode.JSON_SCHEMA
client = instructor.from_openai(openai.OpenAI(base_url=URL, api_key="none"), mode=SCHEMA)
later = instructor.from_openai(openai.AsyncOpenAI(base_url=URL, api_key="none"), mode=SCHEMA)
ask = partial(client.chat.completions.create_with_completion, **ONE)

*_, last = client.chat.completions.create_partial(model=MODEL, **ONE)
assert last.verdict in ("good", "bad")
assert isinstance(last.again, bool)
assert isinstance(asyncio.run(later.chat.completions.create(model=MODEL, **ONE)), Review)

tools = instructor.from_openai(openai.OpenAI(base_url=URL, api_key="none"), mode=instructor.Mode.TOOLS)
assert isinstance(tools.chat.completions.create(model=PRESET, **ONE), Review)
*_, last = tools.chat.completions.create_partial(model=MODEL, **ONE)
assert last.verdict in ("good", "bad")

# Its mode JSON puts the schema into words, which random weights do not follow, and asks for any object: one will do.
words = instructor.from_openai(openai.OpenAI(base_url=URL, api_key="none"), mode=instructor.Mode.JSON)
ended = 0
for seed in range(5):  # some objects are longer than the answer may be
    with suppress(InstructorRetryException, IncompleteOutputException):
        assert isinstance(
            words.chat.completions.create(model=MODEL, seed=seed, **{**ONE, "response_model": Anything}), Anything
        )
        ended += 1
assert ended

body = ask(model=MODEL, extra_body={"decoding": DECODING})
preset = ask(model=PRESET)
header = ask(model=MODEL, extra_headers=HEADERS)
for review, answer in (body, preset, header):
    assert isinstance(review, Review)
    assert_best_of_4(answer.id)
