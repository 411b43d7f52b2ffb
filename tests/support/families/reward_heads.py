"""Models whose head Transformers does not have: reward and process reward models, and judges by a token's logit."""

import json
from pathlib import Path
from typing import Any

from tests.support.families.classifiers import DECODER
from tests.support.families.family import Chat, Family
from tests.support.families.tokenizers import CHATML, byte_level, metaspace
from tests.support.reference import tokenizer

STEP, END = "<extra_0>", "[UNUSED_TOKEN_130]"
GOOD, BAD, STEP_TAG = "+", "-", "ки"
REMOTE_CONFIG = """
from transformers import PretrainedConfig


class TwinConfig(PretrainedConfig):
    model_type = "internlm2"
"""


def save(path: Path, config: dict[str, Any], weights: dict[str, Any], words: Any) -> None:
    """Save a checkpoint by its parts."""
    from safetensors.torch import save_file

    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"torch_dtype": "float32", **config}))
    weights = {name: weight.detach().contiguous().clone() for name, weight in weights.items()}
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    words.save_pretrained(path)


def body(path: Path) -> Any:
    """Return the decoder of a checkpoint without its head."""
    import torch
    from transformers import AutoModel

    return AutoModel.from_pretrained(path, dtype=torch.float32).eval()


def qwen2(path: Path, kind: str, outputs: int, seed: int) -> None:
    """Save a Qwen 2 with a head of two layers. As in the original, the configuration does not say how many outputs."""
    import torch
    from transformers import Qwen2Config, Qwen2Model

    torch.manual_seed(seed)
    words = byte_level(CHATML, ["<|im_start|>", STEP], eos="<|im_end|>", pad="<|endoftext|>")
    size = {name: value for name, value in DECODER.items() if name != "head_dim"}
    config = Qwen2Config(
        vocab_size=len(words), eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, **size
    )
    score = head(64, outputs)
    weights = {f"model.{name}": weight for name, weight in Qwen2Model(config).state_dict().items()}
    weights |= {f"score.{name}": weight for name, weight in score.state_dict().items()}
    save(path, {**config.to_dict(), "architectures": [kind]}, weights, words)


def head(size: int, outputs: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, outputs))


def token_scores(path: Path, ids: list[int]) -> Any:
    """Return the outputs of a Qwen 2 with a head for each token: [tokens, outputs]."""
    import torch
    from safetensors.torch import load_file

    weights = load_file(path / "model.safetensors")
    own = {name.removeprefix("score."): weight for name, weight in weights.items() if name.startswith("score.")}
    score = head(64, len(own["2.bias"]))
    score.load_state_dict(own)
    with torch.no_grad():
        return score(body(path)(torch.tensor([ids])).last_hidden_state[0])


def qwen_rm(path: Path, chat: Chat) -> float:
    """The score at the last token of the rendered chat."""
    words = tokenizer(path)
    text = words.apply_chat_template(chat, tokenize=False)
    return float(token_scores(path, words.encode(text, add_special_tokens=False))[-1, 0])


def qwen_prm(path: Path, chat: Chat) -> float:
    """The least probability that a step is right, at the tag after each step."""
    words = tokenizer(path)
    steps = [step for step in chat[-1]["content"].split("\n") if step.strip()]
    tagged = [*chat[:-1], {"role": "assistant", "content": STEP.join(steps) + STEP}]
    ids = words.encode(words.apply_chat_template(tagged, tokenize=False), add_special_tokens=False)
    rows = token_scores(path, ids).softmax(-1)
    return min(
        float(row[1]) for row, token in zip(rows, ids, strict=True) if token == words.convert_tokens_to_ids(STEP)
    )


def internlm2(path: Path) -> None:
    """Save a Llama under InternLM 2's names: queries, keys and values of a group of heads are one weight."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(10)
    words = byte_level(CHATML, ["<|im_start|>", "<|im_end|>", END], bos="<s>", eos="</s>", begins=True)
    size = {**DECODER, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = LlamaModel(LlamaConfig(vocab_size=len(words), **size))
    for saved in (model, words):
        saved.save_pretrained(path / "llama")
    (path / "configuration_twin.py").write_text(REMOTE_CONFIG)
    names = {
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    own = model.state_dict()
    weights = {"model.tok_embeddings.weight": own["embed_tokens.weight"], "model.norm.weight": own["norm.weight"]}
    weights["v_head.weight"] = torch.randn(1, 128)
    for layer in range(2):
        for old, new in names.items():
            weights[f"model.layers.{layer}.{new}.weight"] = own[f"layers.{layer}.{old}.weight"]
        q, k, v = (own[f"layers.{layer}.self_attn.{name}_proj.weight"] for name in "qkv")
        groups = torch.cat([q.view(2, 2, 32, 128), k.view(2, 1, 32, 128), v.view(2, 1, 32, 128)], dim=1)
        weights[f"model.layers.{layer}.attention.wqkv.weight"] = groups.reshape(-1, 128)
    config = {
        **{name: value for name, value in size.items() if name != "head_dim"},
        "vocab_size": len(words),
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
        "model_type": "internlm2",
        "architectures": ["InternLM2ForRewardModel"],
        "auto_map": {"AutoConfig": "configuration_twin.TwinConfig"},
    }
    save(path, config, weights, words)


def internlm_score(path: Path, chat: Chat) -> float:
    """The score at a token that is put after the rendered chat."""
    import torch
    from safetensors.torch import load_file

    words = tokenizer(path / "llama")
    text = words.apply_chat_template(chat, tokenize=False)
    ids = [*words.encode(text, add_special_tokens=False), words.convert_tokens_to_ids(END)]
    with torch.no_grad():
        last = body(path / "llama")(torch.tensor([ids])).last_hidden_state[0, -1]
        return float(load_file(path / "model.safetensors")["v_head.weight"][0] @ last)


def mistral(path: Path) -> None:
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(11)
    words = metaspace([GOOD, BAD, STEP_TAG])
    config = MistralConfig(vocab_size=len(words), bos_token_id=1, eos_token_id=2, **DECODER)
    MistralForCausalLM(config).to(torch.float32).save_pretrained(path)
    words.save_pretrained(path)


def shepherd(path: Path, chat: Chat) -> float:
    """The least probability of + against - after each step's tag; the chat is one text."""
    import torch
    from transformers import AutoModelForCausalLM

    words = tokenizer(path)
    candidates = words.encode(f"{GOOD} {BAD}")[1:]
    tag = words.encode(STEP_TAG)[-1]
    steps = [step for step in chat[-1]["content"].split("\n") if step.strip()]
    texts = [*(message["content"] for message in chat[:-1]), "\n".join(f"{step} {STEP_TAG}" for step in steps)]
    ids = words.encode(" ".join(texts))
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        rows = model(torch.tensor([ids])).logits[0][:, candidates].softmax(-1)[:, 0]
    assert ids.count(tag) == len(steps)
    return min(float(row) for row, token in zip(rows, ids, strict=True) if token == tag)


REWARD_HEADS = (
    Family("qwen_rm", lambda path: qwen2(path, "Qwen2ForRewardModel", 1, 8), qwen_rm, {"kind": "classifier"}),
    Family(
        "qwen_prm",
        lambda path: qwen2(path, "Qwen2ForProcessRewardModel", 2, 9),
        qwen_prm,
        {
            "kind": "process",
            "step_tag": STEP,
            "step_separator": "\n",
            "label": 1,
            "activation": True,
            "reduce": "min",
        },
    ),
    Family(
        "internlm2",
        internlm2,
        internlm_score,
        {
            "kind": "classifier",
            "chat_template": "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
            "{{ m.content }}<|im_end|>\n{% endfor %}" + END,
        },
        {"trust_remote_code": True},
    ),
    Family(
        "math_shepherd",
        mistral,
        shepherd,
        {
            "kind": "process",
            "chat_template": "{{ bos_token }}{{ messages | map(attribute='content') | join(' ') }}",
            "step_tag": STEP_TAG,
            "step_separator": "\n",
            "keep_separator": True,
            "label": 0,
            "activation": True,
            "reduce": "min",
        },
        {
            "hf_overrides": {
                "architectures": ["MistralForSequenceClassification"],
                "classifier_from_token": ["▁+", "▁-"],
                "method": "no_post_processing",
            }
        },
    ),
)
