"""A sweep: every combination of some settings, and of seeds, as a run folder of its own.

Runs are started one after the other as processes of their own, so that each has its launcher,
process group and devices to itself.  What is finished is read from the run folders alone: a sweep
can be stopped at any time, started again, or shared out over the tasks of a job array.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from headrace.config import RunConfig, load_run_config
from headrace.config.checks import batch_arithmetic
from headrace.errors import EXIT_DONE, EXIT_REQUEUE, ConfigError, Problem, UserError
from headrace.training.distributed import free_port
from headrace.training.results import write_json
from headrace.training.same_run import check_same_run
from headrace.training.signals import STOP_SIGNALS
from headrace.training.stages import expand_stages

LOG_FILE = "sweep.log"
"""What a run printed, in its folder; every start is appended."""
_ATTEMPT_FILE = "sweep_attempt.json"
_SEED = "headrace.seed"


@dataclass(frozen=True)
class Item:
    """One run of a sweep."""

    number: int
    """Position in the sweep, from 0."""
    method: str
    """Readable name of the settings without the seed."""
    settings: tuple[tuple[str, str], ...]
    """Dotted key and value of every setting of the grid."""
    seed: int | None
    """None: that of the config."""
    folder: Path
    """Run folder."""
    config: RunConfig
    overrides: tuple[str, ...]
    """``KEY=VALUE`` texts that turn the sweep's config into that of this run."""

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.folder.name

    @property
    def is_finished(self) -> bool:
        """Whether every branch of the run has its result."""
        return all(branch.result_file.exists() for branch in expand_stages(self.config))

    @property
    def status(self) -> str:
        """``finished``, ``failed`` (at the last start), ``stopped`` or ``waiting``."""
        if self.is_finished:
            return "finished"
        code = self.exit_code
        if code is None:
            return "waiting"
        return "stopped" if code == EXIT_REQUEUE else "failed"

    @property
    def exit_code(self) -> int | None:
        """How the last start ended; negative: the signal that killed it."""
        code = self._attempt("exit_code")
        return None if code is None else int(code)

    @property
    def seconds(self) -> float | None:
        """How long all starts took together; None where that was not recorded."""
        return self._attempt("all_seconds")

    def _attempt(self, key: str) -> float | None:
        """What was recorded of the last start."""
        try:
            attempt = json.loads((self.folder / _ATTEMPT_FILE).read_text(encoding="utf-8"))
            return float(attempt[key])
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep."""

    config_path: Path
    output: Path
    ranks: int
    launcher: str
    items: tuple[Item, ...]


def plan_sweep(
    config_path: Path,
    output: Path,
    *,
    grid: Sequence[str],
    seeds: Sequence[int] = (),
    overrides: Sequence[str] = (),
    ranks: int = 1,
    launcher: str = "",
) -> Sweep:
    """Return every run of a sweep, each with its config loaded and checked.

    Args:
        config_path: run config that all runs share.
        output: folder of the sweep; each run gets a folder in it.
        grid: ``KEY=V1,V2,...`` texts; every combination of their values is a run.
        seeds: every combination is run with each of them.
        overrides: ``KEY=VALUE`` texts for all runs.
        ranks: ranks of each run.
        launcher: command that starts them; ``{ranks}`` stands for their number.

    Raises:
        ConfigError: with the problems of all runs: keys, values, batch sizes that do not divide,
            runs that were started with other settings.
    """
    axes, problems = _axes(grid)
    if len(set(seeds)) != len(seeds):
        problems.append(Problem("a seed is given twice", "--seeds", ",".join(map(str, seeds))))
    if ranks < 1:
        problems.append(Problem("a positive whole number is needed", "--ranks", str(ranks)))
    if problems:
        raise ConfigError(problems)
    short = _short_names([key for key, _ in axes])
    items: list[Item] = []
    found: dict[Problem, list[str]] = {}
    for values in product(*(values for _, values in axes)):
        settings = tuple(zip((key for key, _ in axes), values, strict=True))
        method = "_".join(f"{short[key]}-{_slug(value)}" for key, value in settings) or "base"
        for seed in seeds or (None,):
            folder = output / (method if seed is None else f"{method}_seed-{seed}")
            own = [f"{key}={value}" for key, value in settings]
            own += [] if seed is None else [f"{_SEED}={seed}"]
            # as JSON text, so that a folder such as "2024" stays a text
            own = [*overrides, *own, f"headrace.output={json.dumps(str(folder))}"]
            try:
                config = load_run_config(config_path, own)
                batch_arithmetic(config.deepspeed, ranks)
                check_same_run(config)
            except UserError as error:
                for problem in error.problems:
                    found.setdefault(problem, []).append(folder.name)
                continue
            items.append(Item(len(items), method, settings, seed, folder, config, tuple(own)))
    problems = [
        Problem(
            problem.what, f"{_shortened(names)}: {problem.where}", problem.value, problem.remedy
        )
        for problem, names in found.items()
    ]
    names = [item.name for item in items]
    problems += [
        Problem("two combinations of the grid have the same name", "--grid", name)
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ConfigError(problems)
    return Sweep(config_path, output, ranks, launcher, tuple(items))


def _axes(grid: Sequence[str]) -> tuple[list[tuple[str, list[str]]], list[Problem]]:
    axes: list[tuple[str, list[str]]] = []
    problems = []
    for text in grid:
        key, equals, listed = text.partition("=")
        values = split_values(listed)
        if not (key and equals and all(values)):
            remedy = "Write KEY=V1,V2: optimizer.params.lr=1e-6,5e-6"
            problems.append(Problem("not KEY=V1,V2,...", "--grid", text, remedy))
        elif len(set(values)) != len(values):
            problems.append(Problem("a value is given twice", "--grid", text, "Keep one of them"))
        elif key in [name for name, _ in axes] or key in (_SEED, "headrace.output"):
            remedy = "Seeds go to --seeds, the folder to --output, each other key to one --grid"
            problems.append(Problem("this key cannot be varied here", "--grid", key, remedy))
        axes.append((key, values))
    return axes, problems


def split_values(text: str) -> list[str]:
    """Split ``V1,V2`` at the commas that are not inside brackets, braces or quotes."""
    values, depth, quoted = [""], 0, False
    for letter in text:
        if letter == '"':
            quoted = not quoted
        elif not quoted:
            depth += (letter in "[{") - (letter in "]}")
            if letter == "," and depth == 0:
                values.append("")
                continue
        values[-1] += letter
    return [value.strip() for value in values]


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, or as many parts as tell the keys apart."""
    short = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            name = "-".join(parts[-count:])
            others = ["-".join(other.split(".")[-count:]) for other in keys if other != key]
            if name not in others:
                break
        short[key] = _slug(name)
    return short


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.") or "empty"


def _shortened(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def training_command(sweep: Sweep, item: Item) -> list[str]:
    """Return the command that trains one run.

    Raises:
        ConfigError: if there is no such launcher.
    """
    try:
        words = shlex.split(sweep.launcher.replace("{ranks}", str(sweep.ranks)))
    except ValueError as error:
        raise ConfigError(
            Problem(
                f"not a command line: {error}", "--launcher", sweep.launcher, "Close the quotes"
            )
        ) from None
    arguments = ["train", "--ds_config", str(sweep.config_path)]
    for override in item.overrides:
        arguments += ["--set", override]
    if not words:
        return [sys.executable, "-m", "headrace.cli", *arguments]
    beside = Path(sys.executable).parent / words[0]
    program = shutil.which(words[0]) or (str(beside) if beside.exists() else None)
    if program is None:
        raise ConfigError(
            Problem("no such program", "--launcher", words[0], "Install it or give its path")
        )
    kind = Path(program).name
    # two sweeps on one node must not meet at the default port
    has_port = any("master" in word for word in words)
    port = [] if has_port else [f"--master_port={free_port()}"]
    if kind == "deepspeed":
        run = [*port, "--no_local_rank", "--module", "headrace.cli"]
    elif kind == "torchrun":
        run = [*port, "--module", "headrace.cli"]
    else:
        run = [sys.executable, "-m", "headrace.cli"]
    return [program, *words[1:], *run, *arguments]


class StopRelay:
    """Passes stop signals on to the ranks of the run in hand; a context manager that listens."""

    def __init__(self) -> None:
        self.received = False
        """Whether a stop signal has arrived: no further run is to be started."""
        self.launcher: int | None = None
        """Process id of the launcher of the run in hand."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRelay:
        for number in STOP_SIGNALS:
            self._previous[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.received = True
        if self.launcher is None:
            return
        # To the ranks, not to the launcher: that would kill them before they save a checkpoint.
        ranks: list[Any] = []
        with suppress(psutil.Error):
            launcher = psutil.Process(self.launcher)
            below = launcher.children(recursive=True)
            ranks = [process for process in below if _is_rank(process)] or [launcher]
        for process in ranks:
            with suppress(psutil.Error):
                process.send_signal(number)


def _is_rank(process: Any) -> bool:
    with suppress(psutil.Error):
        return "RANK" in process.environ() and "headrace.cli" in process.cmdline()
    return False


def run_item(sweep: Sweep, item: Item, relay: StopRelay) -> int:
    """Train one run, or go on with it, and return the exit code of its launcher.

    Its output goes to ``sweep.log`` in the run folder.  A run that ends because of a stop signal
    to this process has exit code 75, whether its ranks were up to save a checkpoint or not.
    """
    command = training_command(sweep, item)
    before = item.seconds or 0.0
    item.folder.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with (item.folder / LOG_FILE).open("ab") as log:
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        relay.launcher = process.pid
        try:
            code = process.wait()
        except BaseException:  # Ctrl-C: nothing may be left running
            process.terminate()
            process.wait()
            raise
        finally:
            relay.launcher = None
    if relay.received and code != EXIT_DONE:
        code = EXIT_REQUEUE
    seconds = time.time() - started
    attempt = {"exit_code": code, "seconds": seconds, "all_seconds": before + seconds}
    write_json(item.folder / _ATTEMPT_FILE, attempt)
    return code


def explain_exit(code: int) -> str:
    """Say in words how a run ended."""
    if code == EXIT_DONE:
        return "finished"
    if code == EXIT_REQUEUE:
        return "stopped by a signal, with a checkpoint"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"failed with exit code {code}"
