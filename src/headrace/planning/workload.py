"""A micro-batch of a task without contents, and the computation of its loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from headrace.planning.activations import ActivationModel, DeviceKind, LossOfRows, activation_model
from headrace.tasks.task import Task


def activations_of_task(
    task: Task, network: PreTrainedModel, length: int, kind: DeviceKind, *, masked: bool = True
) -> ActivationModel:
    """Trace micro-batches of a task, as a step of training computes them.

    Rows are taken to be of different lengths, so that there is a mask of padding; of labels that
    a task chooses anew (masked tokens) there are as many as it chooses on average.

    Args:
        task: gives the loss.
        network: on the ``meta`` device, in the type that it is trained in.
        length: tokens of every row.
        kind: kind of device whose memory is asked for.
        masked: whether attention takes a mask of pairs of tokens, as all do but kernels that are
            told the lengths of the samples.

    Raises:
        RuntimeError, NotImplementedError: where the network or the task looks at contents.
    """
    share = float(getattr(task, "masked_share", 1.0))
    with _mask_of_pairs(network, masked):
        return activation_model(
            network,
            loss_of_rows(task, network, length),
            length,
            kind,
            chosen_share=share,
            keeps_mask=masked,
        )


def loss_of_rows(task: Task, network: PreTrainedModel, length: int) -> LossOfRows:
    """Return what computes the loss of a micro-batch; the logits are kept, as a step keeps them."""

    def loss(rows: int) -> tuple[torch.Tensor, ...]:
        batch = batch_without_contents(task, rows, length)
        return task.loss_sum(network, batch, training=True)

    return loss


def batch_without_contents(task: Task, rows: int, length: int) -> dict[str, torch.Tensor]:
    """Return a batch on the ``meta`` device, shaped after the smallest that the task makes.

    Its first dimension becomes the rows, its last one the tokens; one in between, the choices of
    a question, becomes four.
    """
    batch = {}
    for name, tensor in task.idle(0).items():
        shape = [rows, *([4] if tensor.dim() > 2 else []), *([length] if tensor.dim() > 1 else [])]
        batch[name] = torch.empty(shape, dtype=tensor.dtype, device="meta")
    return batch


@contextmanager
def _mask_of_pairs(network: PreTrainedModel, masked: bool) -> Iterator[None]:
    """Give the network's body the mask that it would make of one that says which tokens are real.

    It would look at the contents of that mask, which a tensor without memory does not have.
    """
    attention = str(network.config._attn_implementation)
    dtype = next(network.parameters()).dtype if attention == "eager" else torch.bool

    def replace_mask(
        _: torch.nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        changed, place = dict(named), list(arguments)
        ids = changed.get("input_ids", place[0] if place else None)
        if ids is None or ids.dim() != 2:
            return arguments, changed
        shape = (ids.shape[0], 1, ids.shape[1], ids.shape[1])
        own = shape if masked else (1, 1, 1, 1)
        mask = torch.empty(own, dtype=dtype, device=ids.device).expand(shape)
        if len(place) > 1:
            place[1] = mask
        else:
            changed["attention_mask"] = mask
        return tuple(place), changed

    body: torch.nn.Module = network.base_model
    hook = body.register_forward_pre_hook(replace_mask, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
