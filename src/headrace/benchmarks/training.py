"""Benchmark ``training``: our loop, a bare PyTorch loop, and the Hugging Face Trainer.

All of them train the same network on the same sentences for one epoch, in one process on the CPU.
The bare loop gets our batches as ready tensors: what it takes less is what the engine, the data
path, the logging and the book-keeping cost.  The Trainer makes its own batches of the same size,
in random order and grouped by length.
"""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from headrace.benchmarks.frame import Measured, Row, interleave
from headrace.benchmarks.training_loops import Run, bare_run, headrace_run
from headrace.benchmarks.training_setup import Settings, Setup, prepare
from headrace.errors import MissingExtraError
from headrace.training.distributed import process_group
from headrace.training.logs import quiet_libraries

__all__ = ["Settings", "measure", "settings"]

PACKAGES = ("torch", "deepspeed", "transformers", "tokenizers", "numpy", "accelerate", "datasets")

OURS, OURS_ZERO_1, BARE = "headrace, ZeRO 0", "headrace, ZeRO 1", "bare PyTorch loop"
TRAINER, TRAINER_GROUPED = "Trainer, random order", "Trainer, grouped by length"

_LANGUAGES = ("en", "hi", "zh", "de", "bn", "uk", "es", "fa")


def settings(quick: bool) -> Settings:
    """Return the sizes; the quick ones take about a minute on two cores."""
    if quick:
        return Settings(
            _LANGUAGES, 640, vocabulary=3000, hidden_size=128, layers=2, batch_size=32, rounds=3
        )
    return Settings(
        _LANGUAGES, 1280, vocabulary=6000, hidden_size=256, layers=4, batch_size=32, rounds=7
    )


def measure(sizes: Settings, rounds: int) -> Measured:
    """Run all contestants in interleaved rounds.

    Raises:
        MissingExtraError: without the packages that the Trainer needs.
    """
    for package in ("accelerate", "datasets"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "bench", "the comparison with the Trainer")
    from headrace.benchmarks.training_trainer import trainer_run

    quiet_libraries()
    with (
        tempfile.TemporaryDirectory(prefix="headrace-benchmark-") as folder,
        process_group() as world,
    ):
        setup = prepare(sizes, Path(folder))
        numbers = itertools.count()
        contestants: dict[str, Callable[[], Run]] = {
            OURS: partial(headrace_run, setup, world, numbers, zero_stage=0),
            BARE: partial(bare_run, setup),
            OURS_ZERO_1: partial(headrace_run, setup, world, numbers, zero_stage=1),
            TRAINER: partial(trainer_run, setup, numbers, "random"),
            TRAINER_GROUPED: partial(trainer_run, setup, numbers, "group_by_length"),
        }
        found = interleave(contestants, rounds)
        return Measured(
            setting=setup.describe(),
            rows=tuple(_row(name, runs) for name, runs in found.items()),
            figures=_figures(found, setup),
            packages=PACKAGES,
        )


def _row(name: str, runs: Sequence[Run]) -> Row:
    return Row(
        name=name,
        unit="ms a step",
        values=tuple(1e3 * run.seconds / run.steps for run in runs),
        facts={
            "cpu_ms_a_step": 1e3 * _median(run.cpu_seconds / run.steps for run in runs),
            "tokens_per_s": _median(run.real_tokens / run.seconds for run in runs),
            "padding_share": runs[0].padding_share,
        },
    )


def _figures(found: dict[str, list[Run]], setup: Setup) -> dict[str, float]:
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
