"""vLLM's incremental detokenizer, which gives the text of an answer token by token."""

from copy import copy
from typing import Any

from tokenizers.decoders import DecodeStream
from vllm import SamplingParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from decoders.core import Sampling, Tokens
from server.engines.text.model_text import ModelText


def detokenizer_after(text: ModelText, prompt: Tokens, sampling: Sampling) -> tuple[Any, str]:
    """Return a detokenizer for answers to `prompt`, and the text of the prompt that its output may begin with.

    Where the prompt's tokens end inside a character, the answer's text begins with that character if the answer
    completes it; otherwise the bytes belong to the prompt, and so does their text.
    """
    tail = text.incomplete(prompt)
    params = SamplingParams(
        stop=list(sampling.stop),
        min_tokens=sampling.min_tokens + tail if sampling.min_tokens else 0,
        max_tokens=None,
        include_stop_str_in_output=sampling.include_stop_str_in_output,
        skip_special_tokens=sampling.skip_special_tokens,
        spaces_between_special_tokens=sampling.spaces_between_special_tokens,
    )
    request = EngineCoreRequest(
        request_id="",
        prompt_token_ids=list(prompt[: len(prompt) - tail]),
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    detokenizer = IncrementalDetokenizer.from_new_request(text.tokenizer, request)
    end = prompt[len(prompt) - tail :]
    detokenizer.update(list(end), stop_terminated=False)  # read as if it belonged to the answer
    return detokenizer, text.decode(end) if tail else ""


def copy_detokenizer(detokenizer: Any) -> Any:
    """Return another detokenizer that has read the same tokens."""
    other = copy(detokenizer)
    for name, value in vars(detokenizer).items():
        if isinstance(value, list | DecodeStream):  # what reading changes in place
            setattr(other, name, copy(value))
    return other
