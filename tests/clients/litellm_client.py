"""litellm: completion, stream, async, a router, tools, and each way to ask for a strategy."""

import asyncio
from functools import partial

import litellm
import openai
from asked import DECODING, HEADERS, MODEL, PRESET, QUESTION, URL, Review, assert_best_of_4

HERE = {"api_base": URL, "api_key": "none", "max_tokens": 8}
ASK = [{"role": "user", "content": QUESTION}]
chat = partial(litellm.completion, messages=ASK, **HERE)

whole = chat(model=f"openai/{MODEL}", seed=1)
for message in (whole.choices[0].message, whole.choices[0].message.model_dump()):
    again = chat(model=f"openai/{MODEL}", messages=[*ASK, message, *ASK])
    assert again.usage.prompt_tokens > whole.usage.prompt_tokens
chunks = list(chat(model=f"openai/{MODEL}", seed=1, stream=True, stream_options={"include_usage": True}))
assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
assert len(chat(model=f"openai/{MODEL}", temperature=0.5, n=2).choices) == 2
hosted = chat(model=f"hosted_vllm/{MODEL}", seed=1)
assert hosted.choices[0].message.content == whole.choices[0].message.content
assert litellm.text_completion(model=f"text-completion-openai/{MODEL}", prompt=QUESTION, seed=1, **HERE).choices[0].text
parsed = chat(model=f"openai/{MODEL}", max_tokens=200, response_format=Review)
assert Review.model_validate_json(parsed.choices[0].message.content)

call = {
    "tools": [openai.pydantic_function_tool(Review)],
    "tool_choice": {"type": "function", "function": {"name": "Review"}},
}
message = chat(model=f"openai/{PRESET}", max_tokens=200, **call).choices[0].message
assert Review.model_validate_json(message.tool_calls[0].function.arguments)
result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "noted"}
last = chat(model=f"openai/{MODEL}", messages=[*ASK, message, result], seed=1, tools=call["tools"])
assert last.choices[0].message.content

body = chat(model=f"openai/{MODEL}", extra_body={"decoding": DECODING})
preset = chat(model=f"openai/{PRESET}")
header = chat(model=f"openai/{MODEL}", extra_headers=HEADERS)
for answer in (body, preset, header):
    assert_best_of_4(answer.id)


async def at_once() -> None:
    router = litellm.Router([{"model_name": "film", "litellm_params": {"model": f"openai/{PRESET}", **HERE}}])
    several = (litellm.acompletion(model=f"openai/{PRESET}", messages=ASK, **HERE) for _ in range(3))
    for answer in await asyncio.gather(*several, router.acompletion(model="film", messages=ASK)):
        assert_best_of_4(answer.id)
    stream = await litellm.acompletion(model=f"openai/{MODEL}", messages=ASK, stream=True, **HERE)
    assert [chunk async for chunk in stream][-1].choices[0].finish_reason


asyncio.run(at_once())
