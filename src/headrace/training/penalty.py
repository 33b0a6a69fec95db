"""Penalties on the distance from earlier weights: L2-SP and elastic weight consolidation.

The loss gets ``weight / 2 * sum(importance * (weights - anchor) ** 2)`` (Kirkpatrick et al. 2017;
with an importance of 1 for all weights: Li, Grandvalet and Davoine 2018).  Its gradient is added to
the averaged one at the end of a step, to the part that this rank updates, and not through the
loss: there the weights are in 16 bits, and with ZeRO 3 they are elsewhere.  DeepSpeed then treats
both alike: it divides by the loss scale, clips by the common norm, and skips a step that overflows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from headrace.training.own_parts import OwnPart, own_parts


@dataclass(frozen=True)
class Held:
    """What a penalty holds, and how fast; whole tensors on the CPU, by the names of parameters."""

    weight: float
    anchor: Mapping[str, torch.Tensor]
    """Weights that have no penalty, fp32, shaped as the parameters."""
    importance: Mapping[str, torch.Tensor] | None
    """Fisher information, of the same names and shapes, fp32; None: 1 for all weights."""


@dataclass(frozen=True)
class _Share:
    """What this rank computes of one parameter; flat tensors on its device."""

    part: OwnPart
    anchor: torch.Tensor
    importance: torch.Tensor | None


class Penalty:
    """The penalty of a branch in a DeepSpeed engine."""

    def __init__(self, engine: Any, held: Held) -> None:
        """Cut what is held into the parts of this rank, as the engine cut the parameters."""
        self.weight = held.weight
        self.value = torch.zeros((), dtype=torch.float64, device=engine.device)
        """This rank's share of the penalty before the last step: the sum over ranks is all."""
        self._engine = engine
        self._shares = []
        for name, part in own_parts(engine, held.anchor).items():

            def cut(whole: torch.Tensor, part: OwnPart = part) -> torch.Tensor:
                return whole.flatten()[part.start : part.start + part.size].to(
                    engine.device, torch.float32, copy=True
                )

            importance = None if held.importance is None else cut(held.importance[name])
            self._shares.append(_Share(part, cut(held.anchor[name]), importance))

    @torch.no_grad()
    def add_to_gradients(self) -> None:
        """Add the penalty's gradient to the averaged one; to be called before ``engine.step()``.

        Does nothing before micro-batches whose gradients are still accumulated.
        """
        if not self._engine.is_gradient_accumulation_boundary():
            return
        scale = float(self._engine.optimizer.loss_scale) if self._engine.fp16_enabled() else 1.0
        self.value.zero_()
        for share in self._shares:
            distance = share.part.weights() - share.anchor
            force = distance if share.importance is None else share.importance * distance
            product = (force * distance).sum(dtype=torch.float64)
            self.value += (0.5 * self.weight / share.part.copies) * product
            share.part.add_to_gradient(force * (self.weight * scale))
