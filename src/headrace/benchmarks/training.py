"""Benchmark ``training``: our loop, a bare PyTorch loop, and the Hugging Face Trainer.

All of them train the same network on the same sentences for one epoch, for named entities and for
masked-language modelling: one process on the CPU or a GPU, or the ranks of a launcher.  The bare
loop gets our batches as ready tensors: what it takes less is what the engine, the data path, the
logging and the book-keeping cost.  The Trainer makes its own batches of the same size, in random
order and grouped by length.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from headrace.benchmarks.frame import Measured, Row, interleave
from headrace.benchmarks.training_loops import Run, bare_run, headrace_run
from headrace.benchmarks.training_setup import Settings, Setup, prepare
from headrace.errors import MissingExtraError
from headrace.training.distributed import World, barrier, gather_json, process_group
from headrace.training.logs import quiet_libraries

__all__ = ["Settings", "measure", "settings"]

PACKAGES = ("torch", "deepspeed", "transformers", "tokenizers", "numpy", "accelerate", "datasets")

OURS, OURS_ZERO_1, BARE = "headrace, ZeRO 0", "headrace, ZeRO 1", "bare PyTorch loop"
TRAINER, TRAINER_GROUPED = "Trainer, random order", "Trainer, grouped by length"

_LANGUAGES = ("en", "hi", "zh", "de", "bn", "uk", "es", "fa")


GROUPS: dict[Literal["token_classification", "masked_lm"], str] = {
    "token_classification": "named entities",
    "masked_lm": "masked-language modelling",
}
"""Titles of the tables by task."""


def settings(quick: bool) -> Settings:
    """Return the sizes; the quick ones take about two minutes on two cores.

    With HEADRACE_DATA, a folder of corpora, the sentences are real.
    """
    folder = os.environ.get("HEADRACE_DATA")
    sizes = Settings(
        _LANGUAGES, 320, vocabulary=3000, hidden_size=256, layers=4, batch_size=32, rounds=7,
        corpora=Path(folder) if folder else None,
    )  # fmt: skip
    if not quick:
        return sizes
    return replace(sizes, sentences=160, vocabulary=2000, hidden_size=128, layers=2, rounds=3)


def measure(sizes: Settings, rounds: int) -> Measured:
    """Run all contestants in interleaved rounds, task after task.

    Raises:
        MissingExtraError: without the packages that the Trainer needs.
    """
    for package in ("accelerate", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "bench", "the comparison with the Trainer")
    quiet_libraries()
    with process_group() as world, _shared_folder(world) as folder:
        # of all tasks before the first is measured: what is wrong is found at once
        setups = [_prepared(replace(sizes, task=task), folder / task, world) for task in GROUPS]
        parts = [_measure_task(setup, rounds, world) for setup in setups]
        return Measured(
            setting={
                f"{title}: {name}": text
                for title, part in zip(GROUPS.values(), parts, strict=True)
                for name, text in part.setting.items()
            },
            rows=tuple(row for part in parts for row in part.rows),
            figures={name: value for part in parts for name, value in part.figures.items()},
            packages=PACKAGES,
        )


def _prepared(sizes: Settings, folder: Path, world: World) -> Setup:
    folder.mkdir(exist_ok=True)
    return prepare(sizes, folder, world)


def _measure_task(setup: Setup, rounds: int, world: World) -> Measured:
    from headrace.benchmarks.training_trainer import trainer_run

    numbers = itertools.count()
    contestants: dict[str, Callable[[], Run]] = {
        OURS: partial(headrace_run, setup, world, numbers, zero_stage=0),
        BARE: partial(bare_run, setup),
        OURS_ZERO_1: partial(headrace_run, setup, world, numbers, zero_stage=1),
        TRAINER: partial(trainer_run, setup, numbers, "random"),
        TRAINER_GROUPED: partial(trainer_run, setup, numbers, "group_by_length"),
    }
    found = interleave(contestants, rounds)
    task = setup.settings.task
    suffix = "" if task == "token_classification" else f"_{task}"
    return Measured(
        setting=setup.describe(),
        rows=tuple(_row(name, runs, GROUPS[task]) for name, runs in found.items()),
        figures={f"{name}{suffix}": value for name, value in _figures(found).items()},
        packages=PACKAGES,
    )


@contextmanager
def _shared_folder(world: World) -> Iterator[Path]:
    """A folder of the main rank that all ranks of this machine use."""
    with tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as own:
        yield Path(gather_json(own, world)[0])
        barrier(world)


def _row(name: str, runs: Sequence[Run], group: str) -> Row:
    return Row(
        group=group,
        name=name,
        unit="ms a step",
        values=tuple(1e3 * run.seconds / run.steps for run in runs),
        facts={
            "cpu_ms_a_step": 1e3 * _median(run.cpu_seconds / run.steps for run in runs),
            "tokens_per_s": _median(run.real_tokens / run.seconds for run in runs),
            "padding_share": runs[0].padding_share,
        },
    )


def _figures(found: dict[str, list[Run]]) -> dict[str, float]:
    def seconds(name: str) -> float:
        return _median(run.seconds / run.steps for run in found[name])

    def cpu_seconds(name: str) -> float:
        """Sum over the steps of the fastest round of each, as noise only ever adds to a step."""
        rounds = [run.step_cpu_seconds for run in found[name]]
        return sum(map(min, zip(*rounds, strict=True)), start=0.0)

    def tokens(name: str) -> float:
        return _median(run.real_tokens / run.seconds for run in found[name])

    def tokens_per_cpu_second(name: str) -> float:
        return _median(run.real_tokens / run.cpu_seconds for run in found[name])

    ours = found[OURS]
    bare_losses = found[BARE][0].losses
    return {
        "overhead_vs_bare_loop": seconds(OURS) / seconds(BARE) - 1,
        "overhead_ms_per_step": 1e3 * (seconds(OURS) - seconds(BARE)),
        "cpu_overhead_vs_bare_loop": cpu_seconds(OURS) / cpu_seconds(BARE) - 1,
        "overhead_zero_1": seconds(OURS_ZERO_1) / seconds(BARE) - 1,
        "max_loss_difference": max(
            abs(mine - bare)
            for run in ours
            for mine, bare in zip(run.losses, bare_losses, strict=True)
        ),
        "data_wait_share": _median(run.data_wait / run.seconds for run in ours),
        "padding_share": ours[0].padding_share,
        "tokens_vs_trainer": tokens(OURS) / tokens(TRAINER),
        "tokens_vs_trainer_grouped": tokens(OURS) / tokens(TRAINER_GROUPED),
        "cpu_tokens_vs_trainer": tokens_per_cpu_second(OURS) / tokens_per_cpu_second(TRAINER),
        "cpu_tokens_vs_trainer_grouped": tokens_per_cpu_second(OURS)
        / tokens_per_cpu_second(TRAINER_GROUPED),
    }


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
