"""Which set-ups fit on which GPU, and which of them is to be taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from headrace.planning.devices import Gpu
from headrace.planning.memory import Memory, memory_of_rank
from headrace.planning.network import PlannedNetwork
from headrace.planning.setup import PrecisionName, Setup
from headrace.planning.speed import Speed, Work, speed_of

ENOUGH_TOKENS = 4096
"""Tokens of a micro-batch beyond which a GPU gains little from more."""
_VARIANTS: tuple[tuple[int, bool], ...] = (
    (0, False), (1, False), (2, False), (3, False), (3, True),
)  # fmt: skip
"""ZeRO stage, and whether the optimizer is on the CPU: from the least communication on."""


@dataclass(frozen=True)
class Case:
    """A set-up of one length on some nodes."""

    setup: Setup
    nodes: int
    length: int
    micro: int
    checkpointing: bool
    memory: Memory

    @property
    def zero(self) -> str:
        """The ZeRO stage in words."""
        return (
            f"{self.setup.stage} + CPU" if self.setup.offload_optimizer else f"{self.setup.stage}"
        )

    def fits(self, gpu: Gpu) -> bool:
        """Whether a GPU has enough memory, and the precision and the stage go together on it."""
        return self.is_possible(gpu) and self.memory.peak.bytes <= gpu.usable

    def is_possible(self, gpu: Gpu) -> bool:
        """Whether DeepSpeed trains like this: fp16 needs a ZeRO stage."""
        return self.setup.stage > 0 or self.setup.precision == "fp32" or gpu.narrow == "bf16"


@dataclass(frozen=True)
class Plan:
    """The question: one network, and the set-ups to look at."""

    network: PlannedNetwork
    base: Setup
    """Of the config; precision, ranks, stage and accumulation are those of each case."""
    batch_size: int
    """Samples of a step over all ranks."""
    nodes: Sequence[int]
    gpus_per_node: int
    lengths: Sequence[int]
    micro: Sequence[int]
    """Micro-batches to look at; those that do not divide a rank's share are left out."""
    configured: int | None = None
    """Micro-batch of the config; None where it follows from the accumulation or the ranks."""

    def share(self, nodes: int) -> int:
        """Samples of a step for each rank."""
        return self.batch_size // (nodes * self.gpus_per_node)

    def micro_batches(self, nodes: int) -> list[int]:
        """Return the micro-batches that come out even."""
        share = self.share(nodes)
        return [micro for micro in self.micro if micro <= share and share % micro == 0]

    def as_configured(self, precision: PrecisionName, *, nodes: int, length: int) -> Case:
        """Return the set-up of the config itself."""
        share = self.share(nodes)
        micro = self.configured or share // self.base.accumulation
        micro = micro if micro and share % micro == 0 else share
        setup = replace(
            self.base,
            precision=precision,
            ranks=nodes * self.gpus_per_node,
            accumulation=share // micro,
        )
        return self._case(setup, nodes, length, micro, self.network.checkpointing)

    def case(
        self,
        precision: PrecisionName,
        variant: tuple[int, bool],
        *,
        nodes: int,
        length: int,
        micro: int,
        checkpointing: bool,
    ) -> Case:
        """Return one set-up, with its memory."""
        stage, offload = variant
        setup = replace(
            self.base.with_stage(stage, "cpu" if offload else None),
            precision=precision,
            ranks=nodes * self.gpus_per_node,
            accumulation=self.share(nodes) // micro,
        )
        return self._case(setup, nodes, length, micro, checkpointing)

    def _case(self, setup: Setup, nodes: int, length: int, micro: int, checkpointing: bool) -> Case:
        model = self.network.activations(setup.weight_bytes, length, checkpointing)
        memory = memory_of_rank(self.network.sizes, setup, model(micro))
        return Case(setup, nodes, length, micro, checkpointing, memory)

    def table(
        self, precisions: Iterable[PrecisionName], *, nodes: int, length: int
    ) -> Iterator[Case]:
        """Yield every set-up of the config's own checkpointing, the largest micro-batch last."""
        for precision in precisions:
            for variant in _VARIANTS:
                for micro in self.micro_batches(nodes):
                    yield self.case(
                        precision,
                        variant,
                        nodes=nodes,
                        length=length,
                        micro=micro,
                        checkpointing=self.network.checkpointing,
                    )


@dataclass(frozen=True)
class Advice:
    """What to take on a GPU."""

    gpu: Gpu
    case: Case | None
    """None if nothing fits."""
    reason: str
    utilisation: float
    speed: Speed | None
    price: float | None
    """Of the whole run, in the unit of the price that was given."""


def advise(
    plan: Plan,
    gpu: Gpu,
    precision: PrecisionName,
    *,
    nodes: int,
    length: int,
    work: Work,
    utilisation: float,
    price: float | None,
) -> Advice:
    """Choose a set-up for a GPU.

    The stage with the least communication is taken at which a micro-batch fits that keeps the GPU
    busy, or the whole share of a rank; where there is none, the one with the largest micro-batch.
    Gradient checkpointing is added only where nothing fits without.

    Args:
        plan: the network and the micro-batches.
        gpu: one of a node's.
        precision: format to train in.
        nodes: number of nodes.
        length: tokens of a row.
        work: what the run computes.
        utilisation: share of the GPU's peak.
        price: of an hour of one GPU.
    """
    own = plan.network.checkpointing
    attempts = [own, True] if plan.network.can_checkpoint and not own else [own]
    for checkpointing in attempts:
        found = _largest_of_each(plan, gpu, precision, nodes, length, checkpointing)
        if found:
            case, reason = _choose(found, plan.share(nodes))
            if checkpointing and not own:
                reason += "; nothing fits without gradient checkpointing"
            speed = speed_of(
                work,
                gpu,
                case.setup,
                plan.network.sizes,
                utilisation=utilisation,
                nodes=nodes,
                checkpointing=checkpointing,
            )
            cost = None if speed is None or price is None else speed.gpu_hours * price
            return Advice(gpu, case, reason, utilisation, speed, cost)
    return Advice(gpu, None, "nothing fits, not even one row at a time", utilisation, None, None)


def _largest_of_each(
    plan: Plan, gpu: Gpu, precision: PrecisionName, nodes: int, length: int, checkpointing: bool
) -> list[Case]:
    """The largest micro-batch that fits, for each stage at which one does."""
    found = []
    for variant in _VARIANTS:
        for micro in reversed(plan.micro_batches(nodes)):
            case = plan.case(
                precision,
                variant,
                nodes=nodes,
                length=length,
                micro=micro,
                checkpointing=checkpointing,
            )
            if case.fits(gpu):
                found.append(case)
                break
    return found


def _choose(found: Sequence[Case], share: int) -> tuple[Case, str]:
    """One of the largest cases of each stage, and why."""
    chosen = next(
        (
            case
            for case in found
            if case.micro * case.length >= ENOUGH_TOKENS or case.micro == share
        ),
        max(found, key=lambda case: case.micro),
    )
    smaller = found[: found.index(chosen)]
    least = found[0].setup
    reasons = ["the least communication of what fits"]
    if least.stage == 1 and least.precision == "fp16":
        reasons[0] += ": fp16 needs a ZeRO stage"
    elif least.stage or least.offload_optimizer:
        reasons[0] += f": nothing does below ZeRO {found[0].zero}"
    if smaller:
        listed = ", ".join(f"{case.micro} in ZeRO {case.zero}" for case in smaller)
        reasons[0] = f"other stages have room for smaller micro-batches alone ({listed})"
    if chosen.micro == share:
        reasons.append("a rank's share of a step at once")
    else:
        reasons.append("the largest micro-batch")
    return chosen, "; ".join(reasons)
