"""Packed rows through a network: samples of a row must not see one another.

The attention mask is block-diagonal.  It is built on the device from the rows' segment numbers, in
the form that the network's attention wants, by the functions with which ``transformers`` builds
its own masks (``transformers.masking_utils``).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
)

from headrace.config.schema import HeadraceConfig
from headrace.errors import ConfigError, Problem
from headrace.tasks.task import Task
from headrace.training.model import first_position, new_model

_SLIDING = "sliding_attention"
_OWN_MASKS = {"deberta", "deberta-v2"}
"""Kinds of networks whose encoder takes a mask of queries and keys, but whose embeddings do not."""
_TOLERANCE = 1e-4
"""Of the check: largest difference of two logits, as a part of the largest logit, in fp32."""


class PackedInputs:
    """What a network is called with for packed rows."""

    def __init__(self, network: PreTrainedModel, *, is_causal: bool = False) -> None:
        """Prepare a network; it is the one that is called later, if need be within an engine.

        One that ``is_causal`` looks at earlier tokens alone.  Raises ``ConfigError`` for an
        attention whose mask cannot be block-diagonal.
        """
        self.config = network.config
        self.kind = type(network).__name__
        accepted = inspect.signature(network.forward).parameters
        self.takes_positions = "position_ids" in accepted
        # GPT-2 takes them for tokens of its vocabulary
        self.takes_token_types = "token_type_ids" in accepted and hasattr(
            self.config, "type_vocab_size"
        )
        self.is_causal = is_causal
        self.first_position = first_position(self.config)
        self.dtype_of = next(network.parameters())
        layer_types = getattr(self.config, "layer_types", None) or ()
        self.has_sliding_layers = _SLIDING in layer_types
        self.encoder_mask: torch.Tensor | None = None
        if "flash" in str(self.config._attn_implementation):
            raise self._refused(
                f"no mask of {self.config._attn_implementation} keeps packed samples apart",
                'Set headrace.model.attention to "sdpa"',
            )
        if self.config.model_type in _OWN_MASKS:
            encoder = network.base_model.encoder
            encoder.register_forward_pre_hook(self._mask_for_encoder, with_kwargs=True)

    def __call__(self, batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Return the network's arguments, and ``labels`` if they are given.

        Args:
            batch: ``input_ids``, ``position_ids`` (from 0 in every sample) and ``segments``,
                int64[rows, tokens], as :func:`headrace.encoding.collate.collate_packed` makes them.
        """
        segments = batch["segments"]
        inputs: dict[str, Any] = {
            "input_ids": batch["input_ids"],
            "attention_mask": self._mask(segments),
        }
        if self.takes_positions:
            inputs["position_ids"] = batch["position_ids"] + self.first_position
        if self.takes_token_types:  # some networks would take slices of a buffer of positions
            inputs["token_type_ids"] = torch.zeros_like(segments)
        if "labels" in batch:
            inputs["labels"] = batch["labels"]
        return inputs

    def _mask(self, segments: torch.Tensor) -> Any:
        if self.config.model_type in _OWN_MASKS:
            self.encoder_mask = (segments[:, None, :, None] == segments[:, None, None, :]).long()
            return torch.ones_like(segments)

        def same_segment(row: Any, head: Any, query: Any, key: Any) -> Any:
            return segments[row, query] == segments[row, key]

        # only its shape, type and device are looked at
        embeddings = torch.empty(
            (*segments.shape, 0), dtype=self.dtype_of.dtype, device=segments.device
        )
        makers: tuple[Any, Any] = (
            create_bidirectional_mask,
            create_bidirectional_sliding_window_mask,
        )
        given: dict[str, Any] = {}
        if self.is_causal:
            makers = create_causal_mask, create_sliding_window_causal_mask
            given = {"past_key_values": None}
        whole, sliding = (
            make(self.config, embeddings, None, and_mask_function=same_segment, **given)
            if wanted
            else None
            for make, wanted in zip(makers, (True, self.has_sliding_layers), strict=True)
        )
        return {"full_attention": whole, _SLIDING: sliding} if self.has_sliding_layers else whole

    def _mask_for_encoder(
        self, _: torch.nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Give an encoder of its own kind the mask of the packed rows that are being computed."""
        mask, self.encoder_mask = self.encoder_mask, None
        if mask is None:
            return None  # rows of one sample each, as in validation
        if "attention_mask" in named:
            return arguments, {**named, "attention_mask": mask}
        return (arguments[0], mask, *arguments[2:]), named

    def check(self, network: PreTrainedModel, *, pack_length: int, max_length: int) -> None:
        """Compute some packed samples, and the same samples alone: the logits must be equal.

        The samples are made of random tokens; one is as long as a sample may be.  Weights that are
        small are magnified meanwhile: a network whose weights are new hardly looks at positions
        and at other tokens, and would hide what it does with them.

        Raises ``ConfigError`` naming the architecture where they are not, or it cannot compute
        packed rows at all.
        """
        was_training = network.training
        network.eval()
        try:
            with torch.no_grad(), _magnified(network):
                difference = _difference(self, network, _lengths(pack_length, max_length))
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
            raise self._refused(f"it cannot compute packed rows ({reason})") from None
        finally:
            network.train(was_training)
        if not difference <= _TOLERANCE:
            raise self._refused(
                f"packed samples get other logits than alone (they differ by {difference:.1e})"
            )

    def _refused(
        self, reason: str, remedy: str = 'Set headrace.batching.type to "tokens" or "samples"'
    ) -> ConfigError:
        return ConfigError(
            Problem(
                f"samples cannot be packed for this network: {reason}",
                "headrace.batching.type",
                f"packed, {self.kind}, {self.config._attn_implementation} attention",
                remedy,
            )
        )


def check_packing(config: HeadraceConfig, task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    """Check that the network of a run config keeps packed samples apart, with new weights.

    Raises:
        ConfigError: naming the network.
    """
    network = new_model(config.model, task, tokenizer)
    longest = config.task.max_length
    PackedInputs(network, is_causal=task.is_causal).check(
        network, pack_length=config.batching.pack_length or longest, max_length=longest
    )


@contextmanager
def _magnified(network: PreTrainedModel) -> Iterator[None]:
    """Magnify small matrices, so that products of normalised vectors have a variance of about 1.

    By powers of two, which are undone without a rounding error.
    """
    powers = []
    for weights in network.parameters():
        power = 0
        size = float(weights.square().mean().sqrt()) if weights.dim() > 1 else 0.0
        if size > 0:
            power = max(0, round(-math.log2(size * math.sqrt(weights.shape[-1]))))
        powers.append(power)
        weights.mul_(2.0**power)
    try:
        yield
    finally:
        for weights, power in zip(network.parameters(), powers, strict=True):
            weights.mul_(0.5**power)


def _lengths(pack_length: int, max_length: int) -> list[list[int]]:
    """Lengths of samples in two rows: one of a long and a short sample, one of several."""
    longest = min(max_length, max(1, pack_length - 3))
    rows = [[longest, pack_length - longest], [pack_length // 2, pack_length // 3, 1]]
    return [[min(length, max_length) for length in row if length > 0] for row in rows]


def _difference(inputs: PackedInputs, network: PreTrainedModel, lengths: list[list[int]]) -> float:
    """Return the largest difference of logits, as a part of the largest logit."""
    device = inputs.dtype_of.device
    random = torch.Generator().manual_seed(0)
    pad = network.config.pad_token_id or 0
    tokens = max(max(sum(row) for row in lengths), 1)
    vocabulary = int(network.config.vocab_size)
    samples, packed = [], {
        name: torch.zeros((len(lengths), tokens), dtype=torch.int64)
        for name in ("input_ids", "position_ids", "segments")
    }  # fmt: skip
    packed["input_ids"].fill_(pad)
    for row, members in enumerate(lengths):
        start = 0
        for number, length in enumerate(members, start=1):
            ids = torch.randint(vocabulary - 1, (length,), generator=random)
            ids += ids >= pad  # padding has no place within a sample
            place = slice(start, start + length)
            packed["input_ids"][row, place] = ids
            packed["position_ids"][row, place] = torch.arange(length)
            packed["segments"][row, place] = number
            samples.append((row, place, ids.to(device)))
            start += length
    together = network(**inputs({key: value.to(device) for key, value in packed.items()})).logits
    worst = largest = 0.0
    for row, place, ids in samples:
        alone = network(input_ids=ids[None], attention_mask=torch.ones_like(ids[None])).logits[0]
        worst = max(worst, float((together[row, place] - alone).abs().max()))
        largest = max(largest, float(alone.abs().max()))
    return worst / max(largest, 1e-30)
