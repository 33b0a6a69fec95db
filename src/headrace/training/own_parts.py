"""The part of each weight that this rank updates, in fp32, at every ZeRO stage.

Between the last backward pass of a step and ``engine.step()`` the averaged gradients lie: without
ZeRO in ``.grad``; with ZeRO 1 and 2 in DeepSpeed's list of the fragments that a rank updates; with
ZeRO 3 in its partition of each parameter.  What is elementwise, such as the gradient of a penalty,
needs no more than these parts, and no communication.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container
from typing import Any

import torch
import torch.distributed

from headrace.training.engine import master_weights


class OwnPart(ABC):
    """A part of a parameter; all tensors are flat."""

    start: int
    """Its first number, counted in the flattened parameter."""
    size: int
    """Numbers in it; may be 0."""
    copies: int
    """Ranks that have the same part."""

    @abstractmethod
    def weights(self) -> torch.Tensor:
        """Return the weights that the optimizer updates, fp32[size]."""

    @abstractmethod
    def gradient(self) -> torch.Tensor | None:
        """Return the averaged gradient, [size] or [size of the partition], before the step.

        None where the parameter had no part in the loss, and there is none.
        """

    @abstractmethod
    def add_to_gradient(self, value: torch.Tensor) -> None:
        """Add fp32[size] to the gradient, before ``engine.step()`` at the end of a step.

        A gradient in 16 bits is rounded after the sum.  A parameter that had no part in the loss
        has no gradient without ZeRO, and the optimizer leaves it as it is: nothing is added.
        """


class _Whole(OwnPart):
    """Without ZeRO: every rank updates all of it."""

    def __init__(self, parameter: torch.nn.Parameter, master: torch.Tensor) -> None:
        self.start, self.size = 0, parameter.numel()
        self.copies = torch.distributed.get_world_size()
        self._parameter = parameter
        self._master = master

    def weights(self) -> torch.Tensor:
        return self._master.detach().float().flatten()

    def gradient(self) -> torch.Tensor | None:
        return self._parameter.grad

    def add_to_gradient(self, value: torch.Tensor) -> None:
        if self._parameter.grad is not None:
            self._parameter.grad.add_(value.view_as(self._parameter))


class _Fragment(OwnPart):
    """With ZeRO 1 and 2: parameters end to end are cut into equal parts, one a rank."""

    copies = 1

    def __init__(self, parameter: Any) -> None:
        address = parameter._hp_mapping.lp_fragment_address
        self.start, self.size = int(address.start), int(address.numel)
        self._parameter = parameter

    def weights(self) -> torch.Tensor:
        weights: torch.Tensor = self._parameter._hp_mapping.get_hp_fragment()
        return weights.detach().float().flatten()

    def gradient(self) -> torch.Tensor | None:
        number = self._parameter._index_in_param_group
        gradient: torch.Tensor = self._parameter._hp_mapping.get_lp_grad_fragment(number)
        return gradient

    def add_to_gradient(self, value: torch.Tensor) -> None:
        number = self._parameter._index_in_param_group
        gradient = self._parameter._hp_mapping.get_lp_grad_fragment(number)
        gradient.add_(value.view_as(gradient))


class _Partition(OwnPart):
    """With ZeRO 3: each parameter is cut into equal parts, one a rank, the last ones padded."""

    copies = 1

    def __init__(self, parameter: Any) -> None:
        self._padded = int(parameter.ds_tensor.numel())
        self.start = min(torch.distributed.get_rank() * self._padded, int(parameter.ds_numel))
        self.size = min(self._padded, int(parameter.ds_numel) - self.start)
        self._parameter = parameter

    def weights(self) -> torch.Tensor:
        from deepspeed.utils import safe_get_local_fp32_param

        weights: torch.Tensor = safe_get_local_fp32_param(self._parameter)
        return weights.detach().float().flatten()[: self.size]

    def gradient(self) -> torch.Tensor | None:
        from deepspeed.utils import safe_get_local_grad

        gradient: torch.Tensor = safe_get_local_grad(self._parameter)
        return gradient

    def add_to_gradient(self, value: torch.Tensor) -> None:
        from deepspeed.utils import safe_get_local_grad, safe_set_local_grad

        gradient = safe_get_local_grad(self._parameter).detach().flatten()
        padding = value.new_zeros(self._padded - self.size)
        safe_set_local_grad(self._parameter, gradient + torch.cat([value, padding]))


def own_parts(engine: Any, names: Container[str]) -> dict[str, OwnPart]:
    """Return this rank's parts of the named parameters that are trained, by name.

    Args:
        engine: DeepSpeed engine.
        names: parameters of its module, each by one name.
    """
    masters = master_weights(engine.optimizer) if engine.zero_optimization_stage() == 0 else {}
    parts: dict[str, OwnPart] = {}
    for name, parameter in engine.module.named_parameters(remove_duplicate=False):
        if name not in names or not parameter.requires_grad:
            continue
        if hasattr(parameter, "ds_id"):
            parts[name] = _Partition(parameter)
        elif not hasattr(parameter, "_hp_mapping"):
            parts[name] = _Whole(parameter, masters.get(parameter, parameter))
        elif parameter._hp_mapping is not None:  # else all of it belongs to other ranks
            parts[name] = _Fragment(parameter)
    return parts
