"""One vLLM engine in this process, for guided decoding's measurements.

A child process: a JSON line with prompts' token ids comes in, the seconds that all their answers took go out.
"""

import json
import signal
import sys
import time
from typing import Any

from evaluation.raw import say


def main() -> None:
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    side: dict[str, Any] = json.loads(sys.argv[1])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    llm = LLM(side["model"], **side["engine"])
    for line in sys.stdin:
        ask: dict[str, Any] = json.loads(line)
        params = SamplingParams(
            max_tokens=ask["tokens"],
            temperature=0.0 if ask["greedy"] else 1.0,
            ignore_eos=True,
            extra_args=ask["extra_args"],
        )
        salt = {"cache_salt": ask["salt"]} if ask["salt"] else {}
        prompts = [TokensPrompt(prompt_token_ids=prompt, **salt) for prompt in ask["prompts"]]
        started = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - started
        say({"seconds": seconds, "tokens": [list(output.outputs[0].token_ids) for output in outputs]})


if __name__ == "__main__":
    main()
