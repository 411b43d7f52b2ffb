"""Raw vLLM as a user would write it: generate with n samples, then one classify call over all of them.

A child process: a request holds a prompt's token ids and sampling fields, the answer holds the seconds that it took.
With `blocks`, the samples are also scored after every `blocks` tokens, one call each time, as a blockwise search has to
score them.
"""

import time

from evaluation.speed.json_child import Json, answer_lines, argument_of_child, say


def main() -> None:
    from vllm import LLM, PoolingParams, SamplingParams
    from vllm.inputs import TokensPrompt

    models = argument_of_child()
    policy = LLM(models["policy"], **models["engine"])
    reward = LLM(models["reward"], runner="pooling", **models["engine"])
    say({"ready": True})

    def answer(request: Json) -> Json:
        params = SamplingParams(n=request["n"], max_tokens=request["max_tokens"], temperature=1.0, ignore_eos=True)
        started = time.perf_counter()
        [output] = policy.generate(TokensPrompt(prompt_token_ids=request["tokens"]), params, use_tqdm=False)
        length: int = request["max_tokens"]
        step: int = request.get("blocks", length)
        for end in range(step, length + step, step):
            pairs = [TokensPrompt(prompt_token_ids=[*request["tokens"], *o.token_ids[:end]]) for o in output.outputs]
            scores = reward.classify(pairs, pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
        best = max(range(len(pairs)), key=lambda i: scores[i].outputs.probs[0])
        return {"seconds": time.perf_counter() - started, "text": output.outputs[best].text}

    answer_lines(answer)


if __name__ == "__main__":
    main()
