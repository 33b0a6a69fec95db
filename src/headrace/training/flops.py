"""Floating-point operations that training a network takes, and how many a device can do at most.

What counts is what the model needs (*model* FLOPs, as in the PaLM paper, Chowdhery et al. 2022,
appendix B), however it is computed: nothing for padding, for positions whose output nobody looks
at, or for activations that are computed a second time.  A multiplication and an addition are two
operations.

- A weight of a linear layer costs 2 for each token forward, 2 backward for its own gradient and 2
  for the gradient of what the layer reads: the ``6N`` per token of Kaplan et al. 2020.  What is
  frozen has no gradient of its own, and below the first weight that is trained there is none at
  all.  Looking up an embedding costs nothing.
- The head, and a pooler before it, cost as much for each *label*: other positions need none.
- Attention costs, for each pair of tokens of one sample and each layer, 4 times the width of all
  heads forward (queries by keys, weights by values) and 8 backward: 12 L times the width times the
  length, per token.  Causal attention needs half of the pairs.

Norms, activations, biases and softmax are left out: about 1 % of a base model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headrace.training.layers import UnknownLayersError, discover_layers

_ENCODERS = frozenset(
    [
        *("bert", "camembert", "data2vec-text", "distilbert", "electra", "ernie", "eurobert"),
        *("mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"),
    ]
)
_DECODERS = frozenset(
    [
        "gpt2",
        "gpt_neox",
        "gptj",
        "llama",
        "mistral",
        "olmo",
        "olmo2",
        "opt",
        "phi",
        "qwen2",
        "qwen3",
    ]
)

_PEAKS = (
    ("H200 NVL", {"bf16": 836e12, "fp16": 836e12}),
    ("H200", {"bf16": 989e12, "fp16": 989e12}),
    ("H100 NVL", {"bf16": 836e12, "fp16": 836e12}),
    ("H100 PCIe", {"bf16": 756e12, "fp16": 756e12}),
    ("H100", {"bf16": 989e12, "fp16": 989e12}),
    ("A100", {"bf16": 312e12, "fp16": 312e12}),
    ("V100S", {"fp16": 130e12}),
    ("V100-PCIE", {"fp16": 112e12}),
    ("V100", {"fp16": 125e12}),
)
"""Dense FLOP/s by what the name of a device contains, first match wins: NVIDIA's data sheets."""


@dataclass(frozen=True)
class NetworkFlops:
    """Operations of one training step of a network, by what a batch has."""

    per_token: float
    """For each token that is no padding."""
    per_label: float
    """For each label."""
    per_pair: float
    """For each pair of tokens of the same sample, in both orders, a token with itself too."""

    def of(self, *, tokens: int, labels: int, pairs: int) -> float:
        """Return the operations of a batch."""
        return self.per_token * tokens + self.per_label * labels + self.per_pair * pairs


def network_flops(network: PreTrainedModel, longest: int) -> NetworkFlops | None:
    """Return what training a network costs.

    Args:
        network: whole: ZeRO-3 has not divided its weights yet.  It may be without memory.  Which
            of its parameters are trained is looked at.
        longest: tokens of the longest sample.

    Returns:
        None where the formula is not known to hold: layers that share weights or cannot be told
        apart, attention of another kind (disentangled as in DeBERTa), or limited to a window that
        is shorter than the longest sample.
    """
    settings = network.config
    if settings.model_type not in _ENCODERS | _DECODERS:
        return None
    window = getattr(settings, "sliding_window", None)
    if window and window < longest and getattr(settings, "use_sliding_window", True):
        return None
    body = {id(module) for module in network.base_model.modules()}
    per_token = per_label = 0.0
    below = False  # whether anything that is trained comes before
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, torch.nn.Linear | Conv1D) and isinstance(weight, torch.Tensor):
            cost = 2.0 * weight.numel() * (1 + weight.requires_grad + below)
            if id(module) in body and "pooler" not in name.split("."):
                per_token += cost
            else:
                per_label += cost
        below = below or any(own.requires_grad for own in module.parameters(recurse=False))
    heads: int = settings.num_attention_heads
    width = heads * (getattr(settings, "head_dim", None) or settings.hidden_size // heads)
    causal = settings.model_type in _DECODERS or getattr(settings, "is_decoder", False)
    layers: int = settings.num_hidden_layers
    try:
        trained = layers - _first_trained_layer(network)
    except UnknownLayersError:
        return None
    per_pair = width * (4.0 * layers + 8.0 * trained) * (0.5 if causal else 1.0)
    return NetworkFlops(per_token, per_label, per_pair)


def _first_trained_layer(network: PreTrainedModel) -> int:
    """Number of the first layer through which gradients pass; all layers if there is none."""
    places = discover_layers(network).places
    first: int = network.config.num_hidden_layers
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and name in places:
            place = places[name]
            if place.part == "embeddings":
                return 0
            if place.layer is not None:
                first = min(first, place.layer)
    return first


def attention_pairs(tensors: Mapping[str, torch.Tensor]) -> int:
    """Return the pairs of tokens of the same sample in a batch, without padding.

    Args:
        tensors: with ``segments`` (the number of the sample of each token, 0 for padding) where
            rows are packed, else with ``attention_mask`` (1 for tokens); int64[..., tokens].
            Without either every token counts.
    """
    if "segments" in tensors:
        segments = tensors["segments"]
        rows = torch.arange(segments.shape[0])[:, None] * (int(segments.max()) + 1)
        lengths = torch.bincount((segments + rows)[segments > 0])
    else:
        ids = tensors["input_ids"]
        lengths = tensors.get("attention_mask", torch.ones_like(ids)).sum(-1)
    return int((lengths**2).sum())


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the most operations a second that a device can do; None where that is not known."""
    if device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(device), precision)


def peak_of(name: str, precision: str) -> float | None:
    """Return the dense peak in FLOP/s by the name of a device and ``fp32``, ``bf16`` or ``fp16``.

    There is none for fp32: whether TF32 takes part is a setting of PyTorch.
    """
    for part, peaks in _PEAKS:
        if part in name:
            return peaks.get(precision)
    return None
