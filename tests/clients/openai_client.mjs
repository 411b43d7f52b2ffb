// openai for Node: chats, streams, structured output, tools and each way to ask for a strategy.

import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "none" });
const messages = [{ role: "user", content: "How was the film?" }];
const fields = { model, messages, max_tokens: 8, seed: 1 };
const decoding = { strategy: "best_of_n", n: 4 };
const headers = { "X-Decant-Preset": "best-of-4" };
const chat = client.chat.completions;

const names = [];
for await (const one of client.models.list()) names.push(one.id);
assert(names.includes(model) && names.includes(`${model}:best-of-4`));

const whole = await chat.create(fields);
let text = "";
for await (const chunk of await chat.create({ ...fields, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, whole.choices[0].message.content);
const final = await chat.stream(fields).finalChatCompletion();
assert.equal(final.choices[0].message.content, text);
const turns = [...messages, whole.choices[0].message, ...messages];
assert((await chat.create({ ...fields, messages: turns })).usage.prompt_tokens > whole.usage.prompt_tokens);

const schema = {
  type: "object",
  properties: { verdict: { enum: ["good", "bad"] }, again: { type: "boolean" } },
  required: ["verdict", "again"],
  additionalProperties: false,
};
const format = { type: "json_schema", json_schema: { name: "review", strict: true, schema } };
const review = await chat.parse({ ...fields, max_tokens: 200, response_format: format });
assert.equal(typeof JSON.parse(review.choices[0].message.content).again, "boolean");

const tool = { type: "function", function: { name: "review", strict: true, parameters: schema } };
const named = { type: "function", function: { name: "review" } };
const asked = { ...fields, model: `${model}:best-of-4`, max_tokens: 200, tools: [tool], tool_choice: named };
const { message } = (await chat.create(asked)).choices[0];
assert.equal(typeof JSON.parse(message.tool_calls[0].function.arguments).again, "boolean");
const noted = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "noted" };
assert((await chat.create({ ...fields, messages: [...messages, message, noted], tools: [tool] })).choices[0].message.content);

const body = await chat.create({ ...fields, decoding });
const preset = await chat.create({ ...fields, model: `${model}:best-of-4` });
const header = await chat.create(fields, { headers });
for (const answer of [body, preset, header]) {
  assert.equal(answer.decoding.strategy, "best_of_n");
  assert.equal(answer.decoding.cost.candidates, 4);
}
let last;
for await (last of await chat.create({ ...fields, decoding, stream: true }));
assert.equal(last.decoding.strategy, "best_of_n");
