"""One vLLM engine for the measurements of guided decoding.

A child process: a request holds prompts' token ids, the answer holds the seconds that all their completions took.
"""

import time

from evaluation.speed.json_child import Json, answer_lines, argument_of_child


def main() -> None:
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    side = argument_of_child()
    llm = LLM(side["model"], **side["engine"])

    def answer(request: Json) -> Json:
        params = SamplingParams(
            max_tokens=request["tokens"],
            temperature=0.0 if request["greedy"] else 1.0,
            ignore_eos=True,
            extra_args=request["extra_args"],
        )
        salt = {"cache_salt": request["salt"]} if request["salt"] else {}
        prompts = [TokensPrompt(prompt_token_ids=prompt, **salt) for prompt in request["prompts"]]
        started = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "tokens": [list(output.outputs[0].token_ids) for output in outputs]}

    answer_lines(answer)


if __name__ == "__main__":
    main()
