"""Handing jobs over to SLURM: shown first, then submitted, and written down in the run folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headrace.errors import ConfigError, Problem
from headrace.slurm.batch import Batch
from headrace.slurm.controller import SUBMITTED_VARIABLE, Controller
from headrace.slurm.directives import Options, directives
from headrace.slurm.job import SITE_VARIABLE
from headrace.slurm.records import FOLDER, write_event
from headrace.slurm.site import Site


@dataclass(frozen=True)
class Submitted:
    """A job that SLURM has."""

    number: str
    batch: Batch

    @property
    def log(self) -> str:
        """Its log; of an array, a pattern for those of its tasks."""
        log = str(self.batch.log)
        return log.replace("%j", self.number).replace("%A_%a", f"{self.number}_*")


def sbatch_words(
    batch: Batch, site: Site, options: Options, *, at_once: int | None = None, after: str = ""
) -> list[str]:
    """Return what follows ``sbatch`` for a job.

    Args:
        batch: the job.
        site: its profile.
        options: what was asked for.
        at_once: tasks of an array that may run at the same time.
        after: number of the job that it waits for.

    Raises:
        ConfigError: with everything that does not fit together.
    """
    if not batch.script.is_file():
        remedy = "Submit from the root of the repository, which jobs start in"
        raise ConfigError(Problem("there is no batch script", str(batch.script), None, remedy))
    options = options if batch.on_ranks else replace(options, nodes=1)
    words = [f"--job-name={batch.name}", f"--output={batch.log}"]
    if batch.tasks:
        limit = "" if at_once is None else f"%{at_once}"
        words.append(f"--array={_ranges([number for number, _ in batch.tasks])}{limit}")
    if after:
        # a job whose predecessor has failed is taken out of the queue
        words += [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"]
    arguments = [str(batch.lines_file)] if batch.lines else list(batch.arguments)
    return [*directives(site, options), *words, str(batch.script), *arguments]


def shown(words: Sequence[str], site: Site) -> str:
    """The command as one could type it."""
    return f"{SITE_VARIABLE}={shlex.quote(str(site.path))} sbatch {shlex.join(words)}"


def submit(
    batches: Sequence[Batch],
    site: Site,
    options: Options,
    controller: Controller,
    *,
    at_once: int | None = None,
) -> list[Submitted]:
    """Submit jobs, each of which waits for the one before.

    Raises:
        ConfigError: before anything is submitted.
        SlurmError: if SLURM refuses one; those before it have been submitted.
    """
    for batch in batches:
        sbatch_words(batch, site, options, at_once=at_once)
    found: list[Submitted] = []
    for batch in batches:
        after = found[-1].number if found else ""
        words = sbatch_words(batch, site, options, at_once=at_once, after=after)
        (batch.folder / FOLDER).mkdir(parents=True, exist_ok=True)
        if batch.lines:
            batch.lines_file.write_text(batch.lines_text, encoding="utf-8")
        number = controller.submit(words, _variables(words, site))
        job = Submitted(number, batch)
        write_event(
            batch.folder, number, "submitted",
            template=batch.template, title=batch.title, words=words, site=str(site.path),
            log=job.log, tasks=dict(batch.tasks), after=after or None,
        )  # fmt: skip
        found.append(job)
    return found


def _variables(words: Sequence[str], site: Site) -> Mapping[str, str]:
    return {SITE_VARIABLE: str(site.path), SUBMITTED_VARIABLE: json.dumps(list(words))}


def _ranges(numbers: Sequence[int]) -> str:
    """``1-3,5`` for 1, 2, 3, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
