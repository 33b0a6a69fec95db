"""A memory plan as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headrace.counts import counted
from headrace.planning.advice import Advice, Case
from headrace.planning.devices import CONTEXT_BYTES, USABLE_SHARE, Gpu
from headrace.planning.memory import Memory, Part
from headrace.planning.network import PlannedNetwork
from headrace.planning.speed import Work

_GIB = 1 << 30


@dataclass(frozen=True)
class Section:
    """All set-ups of one length on some nodes, and what to take."""

    nodes: int
    ranks: int
    length: int
    cases: Sequence[Case]
    advice: Sequence[Advice]


def gib(number: float) -> str:
    """Bytes in GiB, with two digits behind the point."""
    return f"{number / _GIB:.2f}"


def network_text(network: PlannedNetwork, work: Work, lengths: Iterable[int]) -> str:
    """What is planned: parameters, activations of a row, work of the run."""
    sizes = network.sizes
    lines = [
        f"{type(network.network).__name__}: {sizes.all:,} parameters, {sizes.trained:,} trained, "
        f"the largest has {sizes.largest:,}"
    ]
    for length in lengths:
        rows = ", ".join(
            f"{network.activations(width, length, network.checkpointing).per_row / 1e6:,.1f} MB in "
            f"{name}"
            for width, name in ((4, "fp32"), (2, "16 bits"))
        )
        kept = "with" if network.checkpointing else "without"
        lines.append(
            f"a row of {length:,} tokens keeps {rows} for the backward pass, {kept} gradient "
            "checkpointing"
        )
    each = work.flops_per_sample
    what = f"the run: {counted(work.samples, 'sample')} in {counted(work.steps, 'step')}"
    if each is None:
        lines.append(f"{what}; its operations are not known for this kind of network")
    else:
        lines.append(
            f"{what}, {work.tokens_per_sample:,.0f} tokens and {each / 1e9:,.1f} GFLOP each: "
            f"{work.samples * each:.3g} FLOP"
        )
    return "\n".join(lines)


def memory_text(case: Case) -> str:
    """All moments of a step of one set-up, and the parts of the largest with their formulas."""
    memory, setup = case.memory, case.setup
    title = (
        f"as configured: {setup.precision}, ZeRO {setup.stage}, {counted(setup.ranks, 'rank')}, "
        f"micro-batch {case.micro} of {case.length:,} tokens, accumulation {setup.accumulation}"
    )
    peak = memory.peak
    width = max(len(part.name) for part in (*peak.parts, *memory.host, *memory.disk))
    lines = [title, ""]
    for moment in memory.moments:
        mark = "  <- peak" if moment is peak else ""
        lines.append(f"  {moment.name:<30}{gib(moment.bytes):>9} GiB{mark}")
    lines += ["", f"  {peak.name}:"]

    def listed(parts: Iterable[Part]) -> list[str]:
        return [
            f"    {part.name:<{width}}  {gib(part.bytes):>9} GiB = {part.formula}" for part in parts
        ]

    lines += listed(peak.parts)
    if memory.host:
        lines += [f"  in the node's memory, for each rank: {gib(memory.host_bytes)} GiB"]
        lines += listed(memory.host)
    if memory.disk:
        lines += ["  on NVMe, for each rank:", *listed(memory.disk)]
    return "\n".join(lines)


def section_text(section: Section, gpus: Sequence[Gpu]) -> str:
    """The table of set-ups, then the advice for each GPU."""
    head = (
        f"rows of {section.length:,} tokens, {counted(section.ranks, 'rank')} on "
        f"{counted(section.nodes, 'node')}; GiB of each GPU"
    )
    rows = [["precision", "ZeRO", "micro", "states", "activations", "peak"]]
    rows[0] += [gpu.name for gpu in gpus]
    for case in section.cases:
        memory = case.memory
        rows.append(
            [
                "fp32" if case.setup.precision == "fp32" else "16 bits",
                case.zero,
                str(case.micro),
                gib(memory.states),
                gib(memory.activations),
                gib(memory.peak.bytes),
                *(_answer(case, gpu) for gpu in gpus),
            ]
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [head, ""]
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        if number > 1 and rows[number][:2] != rows[number - 1][:2]:
            lines.append("")
        lines.append("  " + "  ".join(cells).rstrip())
    lines += [
        "",
        "  states, with gradients and buckets, and activations: the most of each, which need not "
        "come at once",
        "",
        "  recommended",
        "",
    ]
    for advice in section.advice:
        lines += [f"  {line}" for line in _advice_lines(advice)]
    return "\n".join(lines)


def _answer(case: Case, gpu: Gpu) -> str:
    if not case.is_possible(gpu):
        return "n/a"
    return "fits" if case.fits(gpu) else "no"


def _advice_lines(advice: Advice) -> list[str]:
    case, name = advice.case, f"{advice.gpu.name:<9}"
    if case is None:
        return [f"{name} {advice.reason}"]
    setup = case.setup
    what = f"{name} {setup.precision}, ZeRO {case.zero}, micro-batch {case.micro}"
    what += f", accumulation {setup.accumulation}"
    if case.checkpointing:
        what += ", gradient checkpointing"
    lines = [f"{what}: {gib(case.memory.peak.bytes)} of {gib(advice.gpu.usable)} GiB"]
    lines.append(f"{'':<10}{advice.reason}")
    speed = advice.speed
    if speed is not None:
        text = f"{speed.tokens_per_second:,.0f} tokens/s, {_hours(speed.hours)}, "
        text += f"{speed.gpu_hours:,.4g} GPU-hours"
        if advice.price is not None:
            text += f", price {advice.price:,.2f}"
        peak = advice.gpu.peak_flops(setup.precision)
        lines.append(f"{'':<10}{text}")
        lines.append(
            f"{'':<10}at {advice.utilisation:.1%} of {peak / 1e12:,.4g} TFLOP/s; "
            f"{speed.sending_share:.0%} of the time for sending"
        )
    if case.memory.host:
        lines.append(f"{'':<10}{gib(case.memory.host_bytes)} GiB of the node's memory a rank")
    return lines


def _hours(hours: float) -> str:
    return f"{60 * hours:.3g} minutes" if hours < 1 else f"{hours:,.4g} hours"


def assumptions_text(calibrated: str | None) -> str:
    """What the numbers rest on."""
    where = (
        f"utilisation: {calibrated}"
        if calibrated
        else "utilisation: assumed; --calibrate RUN takes it from a run"
    )
    return "\n".join(
        [
            f"fits: {USABLE_SHARE:.0%} of what a GPU has beside {CONTEXT_BYTES / _GIB:.0f} GiB for "
            "CUDA and NCCL hold the peak",
            where,
            "every rank makes the whole network in fp32 in the node's memory first (4 bytes a "
            "parameter), and the main rank gathers it there for each export",
        ]
    )


def case_document(case: Case, gpus: Sequence[Gpu]) -> dict[str, Any]:
    """A set-up as a JSON-able object."""
    return {
        "precision": "fp32" if case.setup.precision == "fp32" else "16 bits",
        "zero_stage": case.setup.stage,
        "offload_optimizer": case.setup.offload_optimizer,
        "nodes": case.nodes,
        "ranks": case.setup.ranks,
        "length": case.length,
        "micro_batch": case.micro,
        "accumulation": case.setup.accumulation,
        "gradient_checkpointing": case.checkpointing,
        **memory_document(case.memory),
        "fits": {gpu.name: case.fits(gpu) for gpu in gpus},
    }


def memory_document(memory: Memory) -> dict[str, Any]:
    """Moments, parts and formulas as a JSON-able object; all sizes in bytes."""
    peak = memory.peak
    return {
        "peak": peak.name,
        "bytes": peak.bytes,
        "states": memory.states,
        "activations": memory.activations,
        "parts": [asdict(part) for part in peak.parts],
        "moments": {moment.name: moment.bytes for moment in memory.moments},
        "host": [asdict(part) for part in memory.host],
        "disk": [asdict(part) for part in memory.disk],
    }


def advice_document(advice: Advice) -> dict[str, Any]:
    """A recommendation as a JSON-able object."""
    gpu, case = advice.gpu, advice.case
    document: dict[str, Any] = {
        "gpu": gpu.name,
        "usable_bytes": gpu.usable,
        "reason": advice.reason,
        "setup": None,
    }
    if case is not None:
        document["setup"] = {
            **case_document(case, [gpu]),
            "precision": case.setup.precision,
            "peak_flops": gpu.peak_flops(case.setup.precision),
        }
    document["utilisation"] = advice.utilisation
    document["speed"] = None if advice.speed is None else asdict(advice.speed)
    document["price"] = advice.price
    return document
