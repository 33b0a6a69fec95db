"""What a micro-batch holds in memory, from a network without memory for its weights.

Nothing is computed and nothing is estimated by the name of an architecture: the forward and the
backward pass are run on PyTorch's ``meta`` device, where tensors have sizes and no contents, and
every storage is counted from the operation that makes it to the moment at which the last tensor
lets go of it.  What differs between the kinds of devices is put in place of what ``meta`` does:

- dropout keeps a mask of one byte an element on a GPU, of the size of its input on the CPU;
- fused attention keeps queries, keys, values, its result, one number a query and a copy of the
  mask in the type of the queries; on the CPU PyTorch has it only where attention has no dropout.
  Attention ``eager`` and the unfused one keep the scores of all pairs of tokens.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

DeviceKind = Literal["cuda", "cpu"]

_SIZES = (2, 4)
"""Rows of the two micro-batches that are traced; others lie on the line through them."""


@dataclass(frozen=True)
class Stretch:
    """A part of a step, from one finished gradient to the next."""

    activations: int
    """Most bytes during it, without weights and without finished gradients."""
    gradients: int
    """Numbers in the gradients that were finished before it."""


@dataclass(frozen=True)
class MicroBatch:
    """The memory of one forward and backward pass, without weights and optimizer."""

    rows: int
    length: int
    """Tokens of a row."""
    stretches: tuple[Stretch, ...]
    """The first is the forward pass and the loss, up to the first gradient."""
    kept: int
    """Bytes between the forward and the backward pass."""
    before_last_weight: int
    """Most bytes until the last of the weights is used for the first time."""
    left: int
    """Bytes behind the backward pass: the logits, which a step holds to its end."""

    @property
    def most(self) -> int:
        """Most bytes of activations at once."""
        return max(stretch.activations for stretch in self.stretches)


@dataclass(frozen=True)
class ActivationModel:
    """Activations of micro-batches of any number of rows, all of one length."""

    small: MicroBatch
    large: MicroBatch

    def __call__(self, rows: int) -> MicroBatch:
        """Return the memory of a micro-batch: everything in it grows with the rows, on a line."""
        few, many = self.small, self.large
        part = (rows - few.rows) / (many.rows - few.rows)

        def at(one: int, other: int) -> int:
            return max(0, round(one + part * (other - one)))

        return MicroBatch(
            rows,
            few.length,
            tuple(
                Stretch(at(one.activations, other.activations), one.gradients)
                for one, other in zip(few.stretches, many.stretches, strict=True)
            ),
            kept=at(few.kept, many.kept),
            before_last_weight=at(few.before_last_weight, many.before_last_weight),
            left=at(few.left, many.left),
        )

    @property
    def per_row(self) -> int:
        """Bytes of each further row that the backward pass needs."""
        return (self.large.kept - self.small.kept) // (self.large.rows - self.small.rows)


LossOfRows = Callable[[int], tuple[torch.Tensor, ...]]
"""Computes the loss of so many rows, and returns it first; what else it returns is kept as long."""


def activation_model(
    network: torch.nn.Module,
    loss: LossOfRows,
    length: int,
    kind: DeviceKind,
    *,
    chosen_share: float = 1.0,
    keeps_mask: bool = True,
) -> ActivationModel:
    """Trace the passes of two micro-batches.

    Args:
        network: on the ``meta`` device, in the type that it is trained in; which of its parameters
            are trained, and whether layers are checkpointed, is looked at.
        loss: computes the loss of a micro-batch of so many rows with it.
        length: tokens of a row.
        kind: which device's memory is asked for.
        chosen_share: share of the elements that are true where the loss looks for those that are.
        keeps_mask: whether fused attention keeps the mask that it is given, as PyTorch's does.

    Raises:
        RuntimeError, NotImplementedError: where an operation of the network looks at contents.
    """
    few, many = (
        trace(network, loss, rows, length, kind, chosen_share=chosen_share, keeps_mask=keeps_mask)
        for rows in _SIZES
    )
    if len(few.stretches) != len(many.stretches):
        raise RuntimeError("the passes of two micro-batches have different gradients")
    return ActivationModel(few, many)


def trace(
    network: torch.nn.Module,
    loss: LossOfRows,
    rows: int,
    length: int,
    kind: DeviceKind,
    *,
    chosen_share: float = 1.0,
    keeps_mask: bool = True,
) -> MicroBatch:
    """Run one forward and backward pass without contents; see :func:`activation_model`."""
    was_training = network.training
    network.train()
    ledger = _Ledger(network, chosen_share)
    try:
        with ledger.counting_gradients(), _kernels_of(kind, keeps_mask), ledger:
            result = loss(rows)
            kept = ledger.live
            result[0].backward()  # type: ignore[no-untyped-call]
            ledger.end_stretch()
            return MicroBatch(
                rows,
                length,
                tuple(ledger.stretches),
                kept=kept,
                before_last_weight=ledger.before_last_weight,
                left=ledger.live,
            )
    finally:
        network.zero_grad(set_to_none=True)
        network.train(was_training)


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that are alive, but weights and finished gradients."""

    def __init__(self, network: torch.nn.Module, chosen_share: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.most = 0
        self.before_last_weight = 0
        self.stretches: list[Stretch] = []
        self._gradients = 0
        self._chosen_share = chosen_share
        self._parameters = list(network.parameters())
        self._unused = {_key(parameter) for parameter in self._parameters}
        self._sizes: dict[int, int] = dict.fromkeys(
            [_key(tensor) for tensor in (*self._parameters, *network.buffers())], 0
        )

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        for tensor in tree_iter(args):
            if isinstance(tensor, torch.Tensor) and _key(tensor) in self._unused:
                self._unused.discard(_key(tensor))
                self.before_last_weight = self._most_so_far()
        if func is torch.ops.aten.nonzero.default:
            rows = max(1, round(self._chosen_share * args[0].numel()))
            result = args[0].new_empty((rows, args[0].dim()), dtype=torch.int64)
        else:
            result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += storage.nbytes()
            self.most = max(self.most, self.live)
            weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)

    def _most_so_far(self) -> int:
        return max([self.most, *(stretch.activations for stretch in self.stretches)])

    def end_stretch(self) -> None:
        """Begin a new stretch."""
        self.stretches.append(Stretch(self.most, self._gradients))
        self.most = self.live

    @contextmanager
    def counting_gradients(self) -> Iterator[None]:
        """Begin a stretch whenever a gradient is finished, which is then no activation."""
        hooks = [
            parameter.register_post_accumulate_grad_hook(self._finished)  # type: ignore[no-untyped-call]
            for parameter in self._parameters
            if parameter.requires_grad
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _finished(self, parameter: torch.Tensor) -> None:
        self.end_stretch()
        gradient = parameter.grad
        if gradient is not None:
            key = _key(gradient)
            self.live -= self._sizes.get(key, 0)
            self.most = self.live
            self._sizes[key] = 0  # what is left is that it goes
            self._gradients += parameter.numel()


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def _kernels_of(kind: DeviceKind, keeps_mask: bool) -> Iterator[None]:
    """Keep for the backward pass what the kernels of a kind of device keep.

    The two functions are replaced, and not caught by a mode of PyTorch, since a mode is left in the
    backward pass, where checkpointed layers are computed a second time.
    """
    functional: Any = torch.nn.functional
    dropout, attention = functional.dropout, functional.scaled_dot_product_attention

    def own_dropout(
        input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Any:
        if kind == "cpu" or input.device.type != "meta":
            return dropout(input, p, training, inplace)
        return _masked_dropout(input) if training and p > 0 else input

    def own_attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        **others: Any,
    ) -> Any:
        if query.device.type != "meta" or (kind == "cpu" and dropout_p > 0):
            return attention(query, key, value, attn_mask, dropout_p, **others)
        return _fused_attention(query, key, value, attn_mask if keeps_mask else None)

    functional.dropout, functional.scaled_dot_product_attention = own_dropout, own_attention
    try:
        yield
    finally:
        functional.dropout, functional.scaled_dot_product_attention = dropout, attention


class _MaskedDropout(torch.autograd.Function):
    """Dropout that keeps a mask of one byte an element."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(torch.empty_like(input, dtype=torch.bool))
        return torch.empty_like(input)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(gradients[0])


class _FusedAttention(torch.autograd.Function):
    """Attention that keeps no scores: of FlashAttention, and PyTorch's memory-efficient one."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        # [rows, heads, tokens, width]; heads lie side by side in each token, as kernels write them
        rows, heads, tokens, _ = query.shape
        result = query.new_empty((rows, tokens, heads, value.shape[-1])).transpose(1, 2)
        sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        kept = [query, key, value, result, sums]
        if mask is not None:
            kept.append(mask.to(query.dtype))
        ctx.save_for_backward(*kept)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


_masked_dropout: Callable[..., Any] = _MaskedDropout.apply
_fused_attention: Callable[..., Any] = _FusedAttention.apply
