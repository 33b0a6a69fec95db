"""The network of a run config, without memory: its sizes, its activations, its operations."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from headrace.config import RunConfig
from headrace.errors import ConfigError, Problem
from headrace.planning.activations import ActivationModel, DeviceKind
from headrace.planning.setup import Sizes
from headrace.planning.workload import activations_of_task
from headrace.tasks.task import Task
from headrace.training.flops import NetworkFlops, network_flops
from headrace.training.param_groups import groups_of_branch
from headrace.training.stages import Branch

_TYPES = {4: torch.float32, 2: torch.bfloat16}
"""By the bytes of a weight; fp16 takes what bf16 takes."""


@dataclass
class PlannedNetwork:
    """A network that is going to be trained."""

    network: PreTrainedModel
    task: Task
    sizes: Sizes
    flops: NetworkFlops | None
    longest: int
    """Tokens of the longest row that the config allows."""
    checkpointing: bool
    """Whether the config asks for gradient checkpointing."""
    masked: bool = True
    """Whether its attention takes a mask of pairs of tokens."""
    _traced: dict[tuple[int, int, bool, DeviceKind], ActivationModel] = field(default_factory=dict)

    @classmethod
    def of_config(
        cls, config: RunConfig, branches: list[Branch], network: PreTrainedModel, task: Task
    ) -> PlannedNetwork:
        """Look at a network.

        Args:
            config: checked run config.
            branches: what it trains; the one that trains most of the network counts.
            network: from :func:`headrace.training.model.empty_model`; changed in place.
            task: of the run.
        """
        headrace = config.headrace
        masked = headrace.model.attention in {None, "eager", "sdpa"}
        if not masked:  # those kernels keep what the fused attention of PyTorch keeps, but no mask
            network.set_attn_implementation("sdpa")
        longest = headrace.task.max_length
        if headrace.batching.type == "packed":
            longest = headrace.batching.pack_length or longest
        groups = max(
            (groups_of_branch(network, config, branch) for branch in branches),
            key=lambda each: each.trained,
        )
        trained = [
            tuple(parameter.numel() for parameter in group["params"])
            for group in groups.for_optimizer(network)
        ]
        numbers = sum(parameter.numel() for parameter in network.parameters())
        frozen = numbers - sum(map(sum, trained))
        return cls(
            network,
            task,
            Sizes(tuple(trained), frozen),
            network_flops(network, headrace.task.max_length),
            longest,
            headrace.model.gradient_checkpointing,
            masked,
        )

    @property
    def can_checkpoint(self) -> bool:
        """Whether its layers can be computed a second time instead of kept."""
        return bool(self.network.supports_gradient_checkpointing)

    def activations(
        self, width: int, length: int, checkpointing: bool, kind: DeviceKind = "cuda"
    ) -> ActivationModel:
        """Return the activations of its micro-batches; each combination is traced once.

        Args:
            width: bytes of a weight: 4 in fp32, 2 in 16 bits.
            length: tokens of a row.
            checkpointing: whether layers are computed a second time in the backward pass.
            kind: kind of device.

        Raises:
            ConfigError: if its passes cannot be traced.
        """
        key = (width, length, checkpointing, kind)
        if key not in self._traced:
            network = self.network.to(_TYPES[width])
            _set_checkpointing(network, checkpointing)
            try:
                self._traced[key] = activations_of_task(
                    self.task, network, length, kind, masked=self.masked
                )
            except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
                raise ConfigError(
                    Problem(
                        f"what a micro-batch takes cannot be traced: {reason}",
                        "headrace.model",
                        type(network).__name__,
                        'Try it with "attention": "eager", or measure it (memory_allocated in '
                        "metrics.jsonl)",
                    )
                ) from None
        return self._traced[key]


def _set_checkpointing(network: PreTrainedModel, wanted: bool) -> None:
    """Have layers computed a second time in the backward pass, or what they need kept."""
    is_set = any(getattr(module, "gradient_checkpointing", False) for module in network.modules())
    if wanted == is_set:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer releases have another name for it
        if wanted:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            network.gradient_checkpointing_disable()
