"""openai: chats, completions, streams, structured output, tools and each way to ask for a strategy, sync and async."""

import asyncio
from functools import partial

import openai
from asked import DECODING, HEADERS, MODEL, PRESET, QUESTION, URL, Review, assert_best_of_4

ASK = [{"role": "user", "content": QUESTION}]
client = openai.OpenAI(base_url=URL, api_key="none")
chat = partial(client.chat.completions.create, messages=ASK, max_tokens=8)


def plain() -> None:
    assert {MODEL, PRESET} <= {model.id for model in client.models.list()}
    answer = chat(model=MODEL, seed=1, logprobs=True)
    assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens <= 8
    # Later turns send the first one's message back: as it came, and with all its nulls.
    for message in (answer.choices[0].message, answer.choices[0].message.model_dump()):
        again = chat(model=MODEL, messages=[*ASK, message, *ASK])
        assert again.usage.prompt_tokens > answer.usage.prompt_tokens
    completion = client.completions.create(model=MODEL, prompt=[QUESTION, "The film"], max_tokens=4, n=2)
    assert len(completion.choices) == 4


def streamed() -> None:
    whole = chat(model=MODEL, seed=1)
    chunks = list(chat(model=MODEL, seed=1, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    last = list(chat(model=MODEL, stream=True, extra_body={"decoding": DECODING}))[-1]
    assert last.decoding["results"][0]["draws"] == 4


def parsed() -> None:
    fields = {"model": MODEL, "messages": ASK, "max_tokens": 200, "response_format": Review}
    assert isinstance(client.chat.completions.parse(**fields).choices[0].message.parsed, Review)
    with client.chat.completions.stream(**fields) as events:
        assert isinstance(events.get_final_completion().choices[0].message.parsed, Review)


def tools() -> None:
    call = {"tools": [openai.pydantic_function_tool(Review)], "max_tokens": 200}
    named = {**call, "tool_choice": {"type": "function", "function": {"name": "Review"}}}
    message = chat(model=PRESET, **named).choices[0].message
    assert message.content is None
    assert Review.model_validate_json(message.tool_calls[0].function.arguments)
    parsed = client.chat.completions.parse(model=MODEL, messages=ASK, **named).choices[0].message
    assert isinstance(parsed.tool_calls[0].function.parsed_arguments, Review)
    with client.chat.completions.stream(model=MODEL, messages=ASK, **named) as events:
        whole = events.get_final_completion().choices[0].message
    assert isinstance(whole.tool_calls[0].function.parsed_arguments, Review)
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "noted"}
    last = chat(model=MODEL, messages=[*ASK, message, result], seed=1, tools=call["tools"])
    assert last.choices[0].message.content


async def at_once() -> None:
    async with openai.AsyncOpenAI(base_url=URL, api_key="none") as several:
        ask = partial(several.chat.completions.create, model=PRESET, messages=ASK, max_tokens=8)
        for answer in await asyncio.gather(*(ask(seed=seed) for seed in range(4))):
            assert_best_of_4(answer.id)
        stream = await several.completions.create(model=MODEL, prompt=QUESTION, max_tokens=8, stream=True)
        assert [chunk async for chunk in stream][-1].choices[0].finish_reason


plain()
streamed()
parsed()
tools()
asyncio.run(at_once())

body = chat(model=MODEL, extra_body={"decoding": DECODING})
preset = chat(model=PRESET)
header = chat(model=MODEL, extra_headers=HEADERS)
for answer in (body, preset, header):
    assert_best_of_4(answer.id)
    assert answer.decoding["cost"]["candidates"] == 4

try:
    chat(model=f"{MODEL}:no-such")
    message = "answered"
except openai.NotFoundError as error:
    message = error.message
assert "best-of-4" in message, message
