"""A step that is not applied: DeepSpeed drops its gradients and counts on.

DeepSpeed's optimizers can do that, after an overflow in 16 bits; here they are told that there was
one, each at the place where it looks for it.  Weights, optimizer states and the loss scale stay as
they are; the buffers of gradients are freed by DeepSpeed's own code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from headrace.training.own_parts import own_parts


def withhold_step(engine: Any) -> None:
    """End a step at the accumulation boundary in place of ``engine.step()``, changing nothing.

    Every rank of the run has to call it at the same step.
    """
    with _replaced(engine.optimizer, _overflowing(engine)):
        engine.step()


def _overflowing(engine: Any) -> dict[str, Any]:
    """Attributes with which the optimizer of an engine drops its gradients."""
    optimizer = engine.optimizer

    def note(*_: Any, **__: Any) -> bool:
        optimizer.overflow = True
        return True

    def nothing(*_: Any, **__: Any) -> None:
        """The loss scale has no part in it; nor has an optimizer without 16-bit copies."""

    if hasattr(optimizer, "clear_hp_grads"):  # bf16 with gradients in fp32, at stage 1

        def drop(*_: Any, **__: Any) -> None:
            note()
            optimizer.clear_hp_grads()
            optimizer.clear_lp_grads()

        return {"step": drop}
    if engine.zero_optimization_stage() == 3:
        return {"_overflow_check_and_loss_scale_update": note, "_update_scale": nothing}
    if engine.zero_optimization_stage() > 0:
        return {"check_grad_overflow": True, "check_overflow": note, "_update_scale": nothing}
    if hasattr(optimizer, "_skip_invalid_grad_norm"):  # 16 bits without ZeRO
        return {
            "step": lambda *_, **__: optimizer._skip_invalid_grad_norm(),
            "_update_scale": nothing,
        }
    return {"step": nothing}  # the engine frees the gradients itself


@contextmanager
def _replaced(target: Any, attributes: dict[str, Any]) -> Iterator[None]:
    """Give an object other attributes for the time of a block."""
    own = {name: vars(target)[name] for name in attributes if name in vars(target)}
    for name, value in attributes.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name in attributes:
            if name in own:
                setattr(target, name, own[name])
            else:
                delattr(target, name)


class Gradients:
    """The averaged gradients of an engine between the last backward pass and its step."""

    def __init__(self, engine: Any) -> None:
        """To be called once the engine is made: the parts of this rank do not change."""
        names = {name for name, _ in engine.module.named_parameters()}
        self._engine = engine
        self._parts = list(own_parts(engine, names).values())

    @torch.no_grad()
    def squared_norm(self) -> torch.Tensor:
        """Return this rank's share of the squared norm (fp64 scalar): the sum over ranks is all.

        Not finite where a gradient is not.  One pass over the part of the gradients that this rank
        updates, without communication.
        """
        found = [(part.gradient(), part.copies) for part in self._parts if part.size]
        tensors = [gradient for gradient, _ in found if gradient is not None]
        if not tensors:
            return torch.zeros((), dtype=torch.float64, device=self._engine.device)
        copies = next(copies for gradient, copies in found if gradient is not None)
        norms = torch.stack(torch._foreach_norm(tensors, 2, torch.float32)).double()
        scale = float(self._engine.optimizer.loss_scale) if self._engine.fp16_enabled() else 1.0
        return norms.square().sum() / (copies * scale**2)
