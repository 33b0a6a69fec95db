"""Parameter groups: which parameters share a learning rate and a weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from headrace.errors import HeadraceError


def make_param_groups(
    model: torch.nn.Module, *, learning_rate: float, weight_decay: float, no_decay: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the optimizer's groups for a model; none of them is empty.

    Args:
        model: its parameters with ``requires_grad`` take part, each exactly once.
        learning_rate: base learning rate of every group.
        weight_decay: weight decay of the group ``decay``.
        no_decay: parts of parameter names (case ignored) that go to the group ``no_decay``.
    """
    members: dict[str, list[torch.nn.Parameter]] = {"decay": [], "no_decay": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            exempt = any(part.lower() in name.lower() for part in no_decay)
            members["no_decay" if exempt else "decay"].append(parameter)
    decays = {"decay": weight_decay, "no_decay": 0.0}
    return [
        {
            "name": name,
            "params": parameters,
            "lr": learning_rate,
            "base_lr": learning_rate,
            "weight_decay": decays[name],
        }
        for name, parameters in members.items()
        if parameters
    ]


def describe_groups(groups: Sequence[dict[str, Any]]) -> str:
    """Return the group table that is shown at the start of a stage."""
    lines = [f"{'group':<12}{'tensors':>9}{'parameters':>14}{'lr':>12}{'weight decay':>14}"]
    for group in groups:
        count = sum(parameter.numel() for parameter in group["params"])
        lines.append(
            f"{group['name']:<12}{len(group['params']):>9}{count:>14,}"
            f"{group['lr']:>12.3g}{group['weight_decay']:>14.3g}"
        )
    return "\n".join(lines)


def set_learning_rate(optimizer: Any, factor: float) -> float:
    """Give every group its base learning rate times a factor; return that of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


def assert_learning_rates(optimizer: Any, base: float) -> None:
    """Check that no engine or checkpoint has changed a group's base learning rate.

    Raises:
        HeadraceError: naming the group and both rates.
    """
    for group in optimizer.param_groups:
        if group.get("base_lr") != base:
            raise HeadraceError(
                f"parameter group {group.get('name')!r} has the base learning rate "
                f"{group.get('base_lr')}, the config says {base}"
            )
