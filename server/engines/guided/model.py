"""The guided policy as one vLLM model: the policy and its guides side by side, sharing one paged KV cache manager.

Every sub-model's attention layers get blocks from the same manager, so guides have continuous batching, prefix caching
and chunked prefill as the policy has. `forward` concatenates the hidden states of all, token by token, and the row of
the batch that each token belongs to; `compute_logits` takes any rows of that and returns the law that each requests.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import linear
from vllm.compilation.backends import set_model_tag
from vllm.config import CUDAGraphMode, VllmConfig
from vllm.forward_context import get_forward_context
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.model_executor.models.interfaces import has_inner_state, is_attention_free, supports_multimodal
from vllm.transformers_utils.config import get_config

from server.engines.guided.adapters import merged
from server.engines.guided.column import Column
from server.engines.guided.mixing import mix, rows_of, tags
from server.engines.guided.row_weights import row_weights_of
from server.engines.guided.shared_layers import common_layers, start_at_layer
from server.engines.guided.shared_weights import share

POLICY = "policy"
_MARK = "\0"  # between a sub-model's name and its weights' names


class GuidedPolicy(nn.Module):
    """`hf_config` has the policy's architecture and the columns, as `server.engines.guided.plan` puts them there."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:  # noqa: ARG002
        super().__init__()
        config = vllm_config.model_config.hf_config
        self._columns = [Column(**column) for column in config.decant_columns]
        device = torch.get_default_device()
        self._rows = row_weights_of(vllm_config, device)
        # Where Python runs at every step, and not only at a graph's capture, a guide without a weight in the batch does
        # not run: only requests with a weight for it look for its keys and values (see `Plan.salt`).
        self._lazy = (
            vllm_config.compilation_config.cudagraph_mode == CUDAGraphMode.NONE and self._rows.known_before_forward
        )
        self._measuring = True  # before the first real batch: all models run, so that vLLM measures their memory
        self._ran: tuple[int, ...] | None = None
        self._widths: list[int] = []
        self._registered = vllm_config.compilation_config.static_forward_context
        self._starts_at: dict[int, int] = {}  # by column, the first layer that the guide does not share with the policy

        self.policy = _build(vllm_config, config, [config.decant_architecture], POLICY)
        self.models = nn.ModuleDict()
        self.heads = nn.ParameterDict()
        self.secondary_weights: list[DefaultModelLoader.Source] = []
        for column in self._columns:
            if column.head is not None:
                weight = load_file(column.head)["weight"].to(device, torch.get_default_dtype())
                self.heads[column.name] = nn.Parameter(weight, requires_grad=False)
            else:
                own = get_config(column.model, trust_remote_code=vllm_config.model_config.trust_remote_code)
                self.models[column.name] = _build(vllm_config, own, None, column.name)
                source = DefaultModelLoader.Source(column.model, None, prefix=column.name + _MARK)
                self.secondary_weights.append(source)

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        return self.policy.embed_input_ids(input_ids)  # type: ignore[no-any-return, operator]

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: None = None,  # noqa: ARG002 - vLLM's, for pipelines
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Return hidden states [tokens, policy + guides + DIGITS]; the policy's alone if no row is guided."""
        policy, below = self._policy(input_ids, positions, inputs_embeds)
        metadata = get_forward_context().attn_metadata
        self._measuring = metadata is None
        self._ran = self._to_run()
        if self._ran is None:
            return policy
        guides = [
            self.models[self._columns[j].name](input_ids, positions, None, below.get(self._starts_at.get(j, 0)))
            for j in self._ran
        ]
        parts = [policy, *guides, tags(_starts(metadata, policy.device), policy.shape[0], policy)]
        self._widths = [part.shape[-1] for part in parts]
        return torch.cat(parts, dim=-1)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """Return logits [rows, vocabulary] of each row's law, or None on ranks that only contribute to them.

        Rows may be any of the batch's tokens, in any order: those to sample at, or those of a prompt to be scored.
        """
        rows = self._rows
        if self._ran is None:
            return self.policy.compute_logits(hidden_states)  # type: ignore[no-any-return, operator]
        policy_hidden, *guides_hidden, tag = torch.split(hidden_states, self._widths, dim=-1)
        policy_hidden = policy_hidden.contiguous()
        policy: Tensor | None = self.policy.compute_logits(policy_hidden)  # type: ignore[operator]
        if rows.plain and rows.known_before_forward and not self._measuring:
            return policy
        hidden = dict(zip(self._ran, guides_hidden, strict=True))
        others = [self._logits(j, policy_hidden, hidden) for j in range(len(self._columns))]
        if policy is None:
            return None
        if not rows.known_before_forward:  # a runner whose processor mixes by itself
            rows.guide_logits = others
            return policy
        return mix(policy, others, rows.weights(rows_of(tag)), some_plain=rows.mixed)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load the policy's weights, then each guide's, which its name marks. Return the names of loaded weights."""
        columns = {column.name: column for column in self._columns}
        loaded: set[str] = set()
        for name, group in groupby(weights, lambda pair: pair[0].rpartition(_MARK)[0]):
            own: Iterable[tuple[str, Tensor]] = ((key.rpartition(_MARK)[2], weight) for key, weight in group)
            if not name:
                loaded |= {f"{POLICY}.{key}" for key in self.policy.load_weights(own)}  # type: ignore[operator]
                continue
            adapter = columns[name].adapter
            if adapter is not None:
                own = merged(own, adapter)
            loaded |= {f"models.{name}.{key}" for key in self.models[name].load_weights(own)}  # type: ignore[operator]
        self._share()
        return loaded | {f"heads.{name}" for name in self.heads}

    def _policy(
        self, input_ids: Tensor, positions: Tensor, inputs_embeds: Tensor | None
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Return the policy's last hidden states, and those before each layer where a guide branches off."""
        out = self.policy(input_ids, positions, None, inputs_embeds)
        if not self._starts_at:
            return out, {}
        last, below = out
        return last, dict(zip(sorted(set(self._starts_at.values())), below, strict=True))

    def _share(self) -> None:
        """Let models that have weights in common keep them once, and run layers in common once."""
        earlier = [self.policy]
        for j, column in enumerate(self._columns):
            if column.head is not None:
                continue
            guide = self.models[column.name]
            for other in earlier:
                share(guide, other)
            earlier.append(guide)
            if layers := common_layers(guide, self.policy):
                start_at_layer(guide, column.name, layers, self._registered)
                self._starts_at[j] = layers
        if self._starts_at:
            self.policy.set_aux_hidden_state_layers(tuple(self._starts_at.values()))  # type: ignore[operator]

    def _to_run(self) -> tuple[int, ...] | None:
        """Return the columns whose models must run for this batch, or None if the policy alone is needed."""
        models = (j for j, column in enumerate(self._columns) if column.head is None)
        if self._measuring or not self._lazy:
            return tuple(models)
        return None if self._rows.plain else tuple(j for j in models if j in self._rows.used)

    def _logits(self, j: int, policy_hidden: Tensor, hidden: dict[int, Tensor]) -> Tensor | None:
        """Return a column's logits, or None if no row has a weight for it."""
        column = self._columns[j]
        if self._rows.known_before_forward and not self._measuring and j not in self._rows.used:
            return None
        if column.head is not None:
            return linear(policy_hidden, self.heads[column.name])
        return self.models[column.name].compute_logits(hidden[j].contiguous())  # type: ignore[no-any-return, operator]


def _build(vllm_config: VllmConfig, config: Any, architectures: list[str] | None, name: str) -> nn.Module:
    """Return a sub-model with its own configuration, and its own names for its attention layers."""
    own = vllm_config.with_hf_config(config, architectures)
    own.model_config.hf_text_config = own.model_config.hf_config.get_text_config()
    with _sliding_window(own, config), set_model_tag(name):
        model: nn.Module = initialize_model(vllm_config=own, prefix=name)
    if has_inner_state(model) or is_attention_free(model) or supports_multimodal(model):
        raise ValueError(f"{name}: {type(model).__name__} is not a text model of attention layers alone")
    return model


@contextmanager
def _sliding_window(vllm_config: VllmConfig, config: Any) -> Iterator[None]:
    """Set the model's own window while it is built: attention layers read it from the policy's cache settings."""
    cache = vllm_config.cache_config
    before = cache.sliding_window
    text = config.get_text_config()
    layers = getattr(text, "layer_types", None)
    everywhere = layers is None or all(kind == "sliding_attention" for kind in layers)
    cache.sliding_window = getattr(text, "sliding_window", None) if everywhere else None
    try:
        yield
    finally:
        cache.sliding_window = before


def _starts(metadata: Any, device: torch.device) -> Tensor:
    """Return where each row's tokens begin [rows + 1], from the attention metadata; no rows in a run that measures."""
    if metadata is None:
        return torch.zeros(2, dtype=torch.int32, device=device)
    if isinstance(metadata, dict):
        for layer in metadata.values():
            starts = getattr(layer, "query_start_loc", None)
            if isinstance(starts, Tensor):
                return starts
    raise RuntimeError("guides need an attention backend that says where requests begin (query_start_loc): FLASH_ATTN")
