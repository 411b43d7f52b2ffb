"""Raw vLLM as a user would write it: generate with n samples, then one classify call over all of them.

A child process: a JSON line with a prompt's token ids and sampling comes in, the seconds it took go out. With `blocks`,
the samples are also scored at every so many tokens, a call each, as a blockwise search has to score them.
"""

import json
import signal
import sys
import time
from typing import Any


def main() -> None:
    from vllm import LLM, PoolingParams, SamplingParams
    from vllm.inputs import TokensPrompt

    models: dict[str, Any] = json.loads(sys.argv[1])
    # Told to stop, leave in the ordinary way: the engines' processes are ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    policy = LLM(models["policy"], **models["engine"])
    reward = LLM(models["reward"], runner="pooling", **models["engine"])
    say({"ready": True})
    for line in sys.stdin:
        ask: dict[str, Any] = json.loads(line)
        params = SamplingParams(n=ask["n"], max_tokens=ask["max_tokens"], temperature=1.0, ignore_eos=True)
        started = time.perf_counter()
        [output] = policy.generate(TokensPrompt(prompt_token_ids=ask["tokens"]), params, use_tqdm=False)
        step = ask.get("blocks", ask["max_tokens"])
        for end in range(step, ask["max_tokens"] + step, step):
            pairs = [TokensPrompt(prompt_token_ids=[*ask["tokens"], *o.token_ids[:end]]) for o in output.outputs]
            scores = reward.classify(pairs, pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
        best = max(range(len(pairs)), key=lambda i: scores[i].outputs.probs[0])
        say({"seconds": time.perf_counter() - started, "text": output.outputs[best].text})


def say(answer: dict[str, Any]) -> None:
    print("\n>" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
