"""How long a run takes on a device: its operations, a share of the device's peak, and the network.

    seconds of a step = operations / (ranks x peak x utilisation) x recomputation + sent / bandwidth

The utilisation is what no data sheet says.  It is an assumption until it is calibrated with the
``metrics.jsonl`` of a run: then it is the median ``mfu`` of its steps.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError, Problem
from headrace.planning.devices import Gpu
from headrace.planning.setup import Setup, Sizes
from headrace.training.flops import NetworkFlops

ASSUMED_UTILISATION = {"fp32": 0.5, "bf16": 0.3, "fp16": 0.3}
"""Share of the peak that networks of a few hundred million weights come to, with padding."""
RECOMPUTATION = 4 / 3
"""With gradient checkpointing the forward pass, a third of the operations, is made twice."""
_WARM_UP = 3
"""Logged steps at the start of a branch that calibration leaves out."""


@dataclass(frozen=True)
class Calibration:
    """What the metrics of a run say."""

    utilisation: float | None
    """Share of the peak; None if the run was on a device whose peak is not known."""
    tokens_per_sample: float
    """Without padding."""
    tokens_per_second: float
    """Of one rank."""
    flops_per_second: float | None
    """Of one rank."""
    precision: str
    steps: int
    """Lines that it is the median of."""


def read_calibration(run: str) -> Calibration:
    """Read the ``metrics.jsonl`` of a run folder, or the file itself.

    Raises:
        ConfigError: if there is none, or it has no measured steps.
    """
    path = Path(run)
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        what = f"the metrics of the run cannot be read: {error.strerror}"
        remedy = "Give the folder of a run that has trained"
        raise ConfigError(Problem(what, "--calibrate", run, remedy)) from None
    start: dict[str, Any] = {}
    steps: list[dict[str, Any]] = []
    since = 0  # steps of this start of a branch
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            what, where = "not a line of JSON", f"{path}:{number}"
            raise ConfigError(Problem(what, where, line[:40])) from None
        if record.get("kind") == "start":
            start, since = record, 0
        elif record.get("kind") == "train" and record.get("tokens_per_s"):
            since += 1
            if since > _WARM_UP:
                steps.append({**record, "ranks": start.get("world_size", 1)})
    if not steps:
        what = f"the run has no step beyond the first {_WARM_UP} that were logged"
        remedy = "Train a little longer, or log more often (headrace.logging.every_steps)"
        raise ConfigError(Problem(what, "--calibrate", str(path), remedy))

    def median(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    speeds = [step["tokens_per_s"] / step["ranks"] for step in steps]
    return Calibration(
        utilisation=median([step.get("mfu") for step in steps]),
        tokens_per_sample=statistics.median(
            step["tokens_per_s"] / max(step["samples_per_s"], 1e-9) for step in steps
        ),
        tokens_per_second=statistics.median(speeds),
        flops_per_second=median(
            [
                None if step.get("flops_per_token") is None else step["flops_per_token"] * speed
                for step, speed in zip(steps, speeds, strict=True)
            ]
        ),
        precision=str(start.get("precision", "fp32")),
        steps=len(steps),
    )


@dataclass(frozen=True)
class Work:
    """What a run has to compute."""

    flops: NetworkFlops | None
    """None for a network of which the formula is not known to hold."""
    samples: int
    """Over all branches, repeats included."""
    steps: int
    tokens_per_sample: float
    """Without padding."""
    labels_per_sample: float

    @property
    def flops_per_sample(self) -> float | None:
        """Operations of one sample."""
        if self.flops is None:
            return None
        tokens = self.tokens_per_sample
        return (
            self.flops.per_token * tokens
            + self.flops.per_label * self.labels_per_sample
            + self.flops.per_pair * tokens**2
        )


@dataclass(frozen=True)
class Speed:
    """How fast a run is."""

    tokens_per_second: float
    """Over all ranks, without padding."""
    hours: float
    gpu_hours: float
    sending_share: float
    """Share of the time in which gradients and weights are sent, as if nothing was computed
    meanwhile."""


def speed_of(
    work: Work,
    gpu: Gpu,
    setup: Setup,
    sizes: Sizes,
    *,
    utilisation: float,
    nodes: int,
    checkpointing: bool,
) -> Speed | None:
    """Return how fast a run is; None where its operations are not known."""
    each = work.flops_per_sample
    if each is None:
        return None
    rate = setup.ranks * gpu.peak_flops(setup.precision) * utilisation
    again = RECOMPUTATION if checkpointing else 1.0
    computing = work.samples * each * again / rate
    bandwidth = gpu.node_bandwidth if nodes == 1 else gpu.network_bandwidth
    sending = work.steps * bytes_sent(setup, sizes) / bandwidth
    seconds = computing + sending
    return Speed(
        work.samples * work.tokens_per_sample / seconds,
        seconds / 3600,
        seconds / 3600 * setup.ranks,
        sending / seconds,
    )


def bytes_sent(setup: Setup, sizes: Sizes) -> float:
    """Return the bytes that a rank sends in one step of the optimizer.

    An all-reduce sends its array twice, a reduce-scatter and an all-gather send it once each, less
    one rank's share.  ZeRO 0 and 1: gradients once a step (an all-reduce, then in ZeRO 1 an
    all-gather of weights).  ZeRO 2: gradients once a micro-batch, by all-reduce as DeepSpeed sends
    its buckets, and weights once a step.  ZeRO 3: weights forward and backward, and gradients, once
    a micro-batch each.
    """
    gradients = sizes.trained * setup.weight_bytes
    weights = sizes.all * setup.weight_bytes
    part = (setup.ranks - 1) / setup.ranks
    if setup.stage == 0:
        return 2 * part * gradients
    if setup.stage == 1:
        return part * (2 * gradients + gradients)
    if setup.stage == 2:
        return part * (2 * gradients * setup.accumulation + gradients)
    return part * (2 * weights + gradients) * setup.accumulation
