"""llama-index-llms-openai-like: texts, chats, streams, async, structured output, tools, and each way to a strategy."""

import asyncio
from functools import partial

from asked import DECODING, HEADERS, MODEL, PRESET, QUESTION, URL, Review, assert_best_of_4
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

like = partial(OpenAILike, api_base=URL, api_key="none", is_chat_model=True, max_tokens=8)
turns = [ChatMessage(role="user", content="Hello"), ChatMessage(role="assistant", content="Yes?")]
turns.append(ChatMessage(role="user", content=QUESTION))

seeded = partial(like, model=MODEL, additional_kwargs={"seed": 1})
for llm in (seeded(), seeded(is_chat_model=False)):
    assert "".join(part.delta or "" for part in llm.stream_complete(QUESTION)) == llm.complete(QUESTION).text
whole = seeded().chat(turns).message.content
assert "".join(part.delta or "" for part in seeded().stream_chat(turns)) == whole
assert asyncio.run(seeded().achat(turns)).message.content == whole

structured = like(model=MODEL, max_tokens=200, should_use_structured_outputs=True).as_structured_llm(Review)
assert isinstance(structured.complete(QUESTION).raw, Review)
*_, last = structured.stream_chat(turns)
assert isinstance(last.raw, Review)


def review(again: bool) -> str:
    """Write a review down."""
    return f"noted {again}"


calling = like(model=PRESET, max_tokens=200, is_function_calling_model=True)
answer = calling.predict_and_call([FunctionTool.from_defaults(review)], QUESTION, tool_required=True)
assert str(answer) in ("noted True", "noted False")
assert isinstance(calling.as_structured_llm(Review).complete(QUESTION).raw, Review)

body = like(model=MODEL, additional_kwargs={"extra_body": {"decoding": DECODING}})
preset = like(model=PRESET)
header = like(model=MODEL, default_headers=HEADERS)
for llm in (body, preset, header):
    assert_best_of_4(llm.chat(turns).raw.id)
