"""The tables of docs/scaling.md: from the formulas of the package, and from two result files.

``python scripts/scaling_tables.py`` writes them between the markers ``<!-- NAME -->`` of the page.
Two networks stand for others.  Every number of memory, sending, checkpoints and goodput comes from
the modules that ``headrace plan`` uses; ``scripts/scaling_costs.py`` and
``tests/planning/measure_goodput.py`` make the result files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from headrace.planning import assumptions
from headrace.planning.activations import MicroBatch, Stretch
from headrace.planning.checkpoint_size import (
    CheckpointSize,
    Storage,
    checkpoint_size,
    copy_seconds,
    load_seconds,
    write_seconds,
)
from headrace.planning.devices import GPUS, Gpu
from headrace.planning.failures import Job, Saving
from headrace.planning.goodput_report import duration
from headrace.planning.interval_study import Study, study_intervals
from headrace.planning.memory import memory_of_rank
from headrace.planning.setup import Setup, Sizes, setup_of
from headrace.planning.speed import ASSUMED_UTILISATION, Work, bytes_sent, speed_of
from headrace.report.table import Table
from headrace.training.flops import NetworkFlops, network_flops

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scaling.md"
RANKS = (1, 8, 16, 64, 256, 1024)
STAGES = (0, 1, 2, 3)
NODES = (1, 8, 32, 128)
"""Of the table of goodput: eight GPUs each."""
TOKENS = 4096
"""Of each GPU in a step."""
LENGTH = 512
"""Tokens of a sample."""
GPUS_PER_NODE = {"V100-32": 4, "H100-80": 8}
_GIB = 1 << 30


@dataclass(frozen=True)
class Network:
    """A network without memory for its weights."""

    name: str
    sizes: Sizes
    flops: NetworkFlops
    labelled: float
    """Share of the tokens that have a label."""


@cache
def networks() -> tuple[Network, ...]:
    """Return XLM-R large, trained by masked-language modelling, and a decoder of 7 billion."""
    xlmr = AutoConfig.for_model(
        "xlm-roberta",
        vocab_size=250_002,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        max_position_embeddings=514,
    )
    llama = AutoConfig.for_model(
        "llama",
        vocab_size=32_000,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        intermediate_size=11_008,
    )
    with torch.device("meta"):
        encoder = AutoModelForMaskedLM.from_config(xlmr)
        decoder = AutoModelForCausalLM.from_config(llama)
    return (
        _network("XLM-R large", encoder, labelled=0.15),
        _network("decoder of 7 billion", decoder, labelled=1.0),
    )


def _network(name: str, model: PreTrainedModel, labelled: float) -> Network:
    flops = network_flops(model, LENGTH)
    if flops is None:
        raise ValueError(f"the operations of {name} are not known")
    parameters = list(model.parameters())
    groups = tuple(
        tuple(each.numel() for each in parameters if (each.dim() > 1) == wide)
        for wide in (True, False)
    )
    return Network(name, Sizes(groups), flops, labelled)


def setup(stage: int, ranks: int) -> Setup:
    """16 bits, Adam, and DeepSpeed's own defaults."""
    section = {"optimizer": {"type": "AdamW"}, "zero_optimization": {"stage": stage}}
    return setup_of(section, kind="cuda", precision="bf16", ranks=ranks, accumulation=1)


def states(network: Network, stage: int, ranks: int) -> int:
    """Most bytes that a rank holds at once beside its activations."""
    finished, stretches = 0, [Stretch(0, 0)]
    for size in (size for group in network.sizes.groups for size in group):
        finished += size
        stretches.append(Stretch(0, finished))
    nothing = MicroBatch(1, 1, tuple(stretches), kept=0, before_last_weight=0, left=0)
    return memory_of_rank(network.sizes, setup(stage, ranks), nothing).states


def memory_table(network: Network) -> Table:
    """GiB of a rank beside the activations, by ranks and ZeRO stage."""
    rows = [
        (f"{ranks:,}", *(f"{states(network, stage, ranks) / _GIB:.1f}" for stage in STAGES))
        for ranks in RANKS
    ]
    return Table("memory", ("GPUs", *(f"ZeRO {stage}" for stage in STAGES)), tuple(rows))


def sending_table(network: Network) -> Table:
    """GB that a rank sends in a step, by ranks and ZeRO stage."""
    rows = [
        (
            f"{ranks:,}",
            *(f"{bytes_sent(setup(stage, ranks), network.sizes) / 1e9:.2f}" for stage in STAGES),
        )
        for ranks in RANKS
    ]
    return Table("sending", ("GPUs", *(f"ZeRO {stage}" for stage in STAGES)), tuple(rows))


def step_table(network: Network) -> Table:
    """Seconds of a step, and the share of them that is sending, where the states fit."""
    gpus = [gpu for gpu in GPUS if gpu.name in GPUS_PER_NODE]
    columns = [f"{gpu.name}, ZeRO {stage}" for gpu in gpus for stage in (1, 3)]
    rows = [
        (
            f"{ranks:,}",
            *(_step(network, gpu, stage, ranks) for gpu in gpus for stage in (1, 3)),
        )
        for ranks in RANKS
    ]
    return Table("step", ("GPUs", *columns), tuple(rows))


def _step(network: Network, gpu: Gpu, stage: int, ranks: int) -> str:
    if states(network, stage, ranks) > gpu.usable:
        return "too large"
    chosen = replace(setup(stage, ranks), precision=gpu.narrow)
    samples = ranks * TOKENS // LENGTH
    work = Work(network.flops, samples, 1, LENGTH, LENGTH * network.labelled)
    speed = speed_of(
        work,
        gpu,
        chosen,
        network.sizes,
        utilisation=ASSUMED_UTILISATION[gpu.narrow],
        nodes=-(-ranks // GPUS_PER_NODE[gpu.name]),
        checkpointing=False,
    )
    if speed is None:
        raise ValueError(f"the operations of {network.name} are not known")
    return f"{3600 * speed.hours:.2f} s, {speed.sending_share:.0%}"


def checkpoint_table(network: Network) -> Table:
    """Size of a checkpoint, and how long it is copied, written and loaded; eight GPUs a node."""
    rows = []
    for stage in (1, 3):
        for nodes in NODES:
            size = _checkpoint(network, stage, nodes)
            seconds = (
                copy_seconds(size, Storage()),
                write_seconds(size, nodes, Storage()),
                load_seconds(size, nodes, Storage()),
            )
            rows.append(
                (
                    f"{stage}",
                    f"{8 * nodes:,}",
                    f"{size.whole / 1e9:.1f}",
                    *(f"{each:.1f}" for each in seconds),
                )
            )
    columns = ("ZeRO", "GPUs", "GB", "copied in (s)", "written in (s)", "loaded in (s)")
    return Table("checkpoints", columns, tuple(rows))


def _checkpoint(network: Network, stage: int, nodes: int) -> CheckpointSize:
    return checkpoint_size(network.sizes, setup(stage, 8 * nodes))


def goodput_table(network: Network, *, node_mtbf_hours: Sequence[float]) -> Table:
    """Best interval and goodput by nodes and their failures: ZeRO 1, eight GPUs a node."""
    rows = []
    for hours in node_mtbf_hours:
        for nodes in NODES:
            ways = studies(network, nodes, hours)
            waits = ways["synchronous"]
            low, high = waits.good
            rows.append(
                (
                    f"{hours:,.0f} h",
                    f"{8 * nodes:,}",
                    duration(waits.job.mtbf),
                    duration(waits.recommended.outcome.interval),
                    duration(waits.best.outcome.interval),
                    f"{duration(low)} to {duration(high)}",
                    *(_goodput(study) for study in ways.values()),
                )
            )
    columns = (
        "MTBF of a node", "GPUs", "a failure every", "Daly", "best simulated", "good",
        "goodput", "goodput, asynchronous",
    )  # fmt: skip
    return Table("goodput", columns, tuple(rows))


def _goodput(study: Study) -> str:
    out = study.recommended.outcome
    return f"{out.mean:.1%} ({out.quantile(0.05):.1%} to {out.quantile(0.95):.1%})"


def studies(network: Network, nodes: int, node_mtbf_hours: float) -> Mapping[str, Study]:
    """Simulate a run of a week under the assumptions, with each way of saving."""
    size = _checkpoint(network, 1, nodes)
    write = write_seconds(size, nodes, Storage())
    job = Job(
        work=3600 * assumptions.WORK_HOURS,
        mtbf=3600 * node_mtbf_hours / nodes,
        detect=assumptions.DETECT_SECONDS,
        requeue=assumptions.REQUEUE_SECONDS,
        start=assumptions.START_SECONDS + load_seconds(size, nodes, Storage()),
    )
    ways = {
        "synchronous": Saving(write),
        "asynchronous": Saving(copy_seconds(size, Storage()), write),
    }
    return {
        name: study_intervals(job, saving, draws=assumptions.DRAWS, seed=assumptions.SEED)
        for name, saving in ways.items()
    }


# What was measured


def imports_table(result: Mapping[str, Any]) -> Table:
    """What a start reads, by nodes: each file once a node, however many ranks it has."""
    imports, encoded = result["imports"], result["encoded"]
    code = imports["module_bytes"] + imports["library_bytes"]
    files = imports["modules"] + imports["libraries"]
    rows = []
    for nodes in (1, *NODES[1:]):
        data = [samples * encoded["bytes_per_sample"] for samples in (1e6, 1e8)]
        read = [max(size / Storage().node, nodes * size / Storage().shared) for size in data]
        rows.append(
            (
                f"{nodes:,}",
                f"{nodes * files:,.0f}",
                f"{nodes * code / 1e9:,.1f}",
                *(f"{nodes * size / 1e9:,.1f} GB, {duration(seconds)}"
                  for size, seconds in zip(data, read, strict=True)),
            )
        )  # fmt: skip
    columns = (
        "nodes", "files of code", "GB of code", "sidecars of 1 million samples", "of 100 million",
    )  # fmt: skip
    return Table("start", columns, tuple(rows))


def plans_table(result: Mapping[str, Any]) -> Table:
    """The cost of the data plan by samples and ranks."""
    rows = [
        (
            f"{row['samples']:,}",
            f"{row['ranks']:,}",
            f"{row['batch_size']:,}",
            *(f"{row[name]:.3g}" for name in ("plan_ms", "window_ms", "batch_ms", "split_ms")),
            f"{row['step_ms']:.2f}",
            f"{row['length_bytes'] / 1e6:,.1f}",
        )
        for row in result["plans"]
    ]
    columns = (
        "samples", "ranks", "batch", "plan (ms)", "window of 50 batches (ms)", "batch (ms)",
        "a rank's part (ms)", "each step (ms)", "lengths (MB)",
    )  # fmt: skip
    return Table("plans", columns, tuple(rows))


def real_table(result: Mapping[str, Any]) -> Table:
    """Measured and simulated goodput of training that was killed."""
    rows = [
        (
            f"{row['every_steps']}",
            duration(row["interval_s"]),
            f"{row['failures']}",
            f"{row['measured']:.1%}",
            f"{row['simulated_failures']}",
            f"{row['simulated']:.1%}",
            f"{100 * (row['simulated'] - row['measured']):+.1f}",
            f"{row['drawn']:.1%} ({row['low']:.1%} to {row['high']:.1%})",
        )
        for row in result["rows"]
    ]
    columns = (
        "every (steps)", "training", "kills", "measured", "kills simulated", "simulated",
        "difference (points)", "4,000 other draws",
    )  # fmt: skip
    return Table("real", columns, tuple(rows))


def real_text(result: Mapping[str, Any]) -> str:
    """What was given to the simulation, as a sentence."""
    times = {name: f"{1e3 * result[name]:,.0f} ms" for name in ("step_s", "save_s")}
    return (
        f"Measured and given to the simulation: a step {times['step_s']}, a save "
        f"{times['save_s']}, a start {result['start_s']:.2f} s. Daly's interval: "
        f"{duration(result['daly_s'])}, {result['daly_s'] / result['step_s']:.0f} steps. "
        f"`{result['command']}`, {result['date']}, {result['environment']['cpu']}.\n"
    )


def costs_text(result: Mapping[str, Any]) -> str:
    """What was measured of a start, as a sentence."""
    imports, encoded = result["imports"], result["encoded"]
    size = encoded["bytes_per_sample"] * encoded["samples"] / encoded["shards"]
    shard = size / encoded["open_gb_per_s"] / 1e9
    many = 1e8 / encoded["samples"] * encoded["shards"] * shard
    return (
        "Measured, in processor time on a busy machine: importing all that a training imports "
        f"takes {imports['seconds']:.1f} s of a core, {imports['modules']:,.0f} compiled modules "
        f"of {imports['module_bytes'] / 1e6:,.0f} MB and {imports['libraries']:,.0f} libraries of "
        f"{imports['library_bytes'] / 1e9:.2f} GB (with torch for CPUs; that for CUDA has several "
        f"GB). A sidecar has {encoded['bytes_per_sample']:,.0f} bytes a sample of "
        f"{encoded['tokens_per_sample']:.0f} tokens, and is opened again, hashes and all, in "
        f"{1e3 * shard:.1f} ms a shard of {encoded['samples'] / encoded['shards']:,.0f} samples by "
        f"each rank: {many:.0f} s for 100 million samples. `{result['command']}`, "
        f"{result['date']}, {result['environment']['cpu']}.\n"
    )


def formulas() -> dict[str, str]:
    """The tables that follow from the package alone, by marker."""
    small, large = networks()
    tables = {
        "memory small": memory_table(small),
        "memory large": memory_table(large),
        "sending small": sending_table(small),
        "sending large": sending_table(large),
        "step small": step_table(small),
        "step large": step_table(large),
        "checkpoints": checkpoint_table(large),
        "goodput": goodput_table(large, node_mtbf_hours=(1000, assumptions.NODE_MTBF_HOURS)),
    }
    return {name: table.markdown() for name, table in tables.items()}


def measured() -> dict[str, str]:
    """What the result files say, by marker; one that has not been made says nothing."""
    found: dict[str, str] = {}
    results = ROOT / "docs" / "results"
    if (results / "scaling.json").exists():
        scaling = json.loads((results / "scaling.json").read_text(encoding="utf-8"))
        found |= {
            "start": imports_table(scaling).markdown(),
            "plans": plans_table(scaling).markdown(),
            "costs": costs_text(scaling),
        }
    if (results / "goodput.json").exists():
        goodput = json.loads((results / "goodput.json").read_text(encoding="utf-8"))
        found |= {"real": real_table(goodput).markdown(), "lives": real_text(goodput)}
    return found


def put_into(page: str, parts: Mapping[str, str]) -> str:
    """Return the page with the parts between their markers."""
    for name, text in parts.items():
        marker = f"<!-- {name} -->"
        before, _, after = page.split(marker)
        page = f"{before}{marker}\n{text}{marker}{after}"
    return page


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(put_into(text, {**formulas(), **measured()}), encoding="utf-8")
