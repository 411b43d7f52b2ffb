"""langchain-openai: invoke, stream, batch, structured output, tools and each way to ask for a strategy."""

from functools import partial

from asked import DECODING, HEADERS, MODEL, PRESET, QUESTION, URL, Review, assert_best_of_4
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI

chat = partial(ChatOpenAI, base_url=URL, api_key="none", max_tokens=8)
turns = [("system", "Be short."), ("human", "Hello"), ("ai", "Yes?"), ("human", QUESTION)]

whole = chat(model=MODEL, seed=1).invoke(turns)
chunks = list(chat(model=MODEL, seed=1, stream_usage=True).stream(turns))
assert "".join(chunk.content for chunk in chunks) == whole.content
assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) <= 8
sampled = chat(model=MODEL, temperature=0.5, n=2, logprobs=True, top_logprobs=2).invoke(turns)
assert len(sampled.response_metadata["logprobs"]["content"][0]["top_logprobs"]) >= 2
assert len(chat(model=MODEL).batch([QUESTION, "Why?"])) == 2
text = OpenAI(base_url=URL, api_key="none", model=MODEL, max_tokens=8, seed=1)
assert "".join(text.stream(QUESTION)) == text.invoke(QUESTION)

for strict in (None, True):
    structured = chat(model=MODEL, max_tokens=200).with_structured_output(Review, method="json_schema", strict=strict)
    assert isinstance(structured.invoke(QUESTION), Review)
    assert isinstance(list(structured.stream(QUESTION))[-1], Review)

called = chat(model=MODEL, max_tokens=200).with_structured_output(Review, method="function_calling")
assert isinstance(called.invoke(QUESTION), Review)
bound = chat(model=PRESET, max_tokens=200).bind_tools([Review], tool_choice="Review")
message = bound.invoke(QUESTION)
[call] = message.tool_calls
assert Review.model_validate(call["args"])
*parts, last = bound.stream(QUESTION)
assert Review.model_validate(sum(parts, last).tool_calls[0]["args"])
result = ToolMessage("noted", tool_call_id=call["id"])
assert chat(model=MODEL, seed=1).bind_tools([Review]).invoke([HumanMessage(QUESTION), message, result]).content

body = chat(model=MODEL, extra_body={"decoding": DECODING})
preset = chat(model=PRESET)
header = chat(model=MODEL, default_headers=HEADERS)
for llm in (body, preset, header):
    assert_best_of_4(llm.invoke(QUESTION).response_metadata["id"])
