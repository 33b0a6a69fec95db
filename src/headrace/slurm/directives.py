"""What ``sbatch`` is asked for: the directives of a site, some options, and what follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import ConfigError, Problem
from headrace.slurm.site import Site

SIGNAL_SECONDS = 300
"""The batch scripts of this project ask for USR1 so long before the time limit."""
_PROJECT = "{project}"
_TIME = re.compile(r"(?:(?P<d>\d+)-)?(?P<a>\d+)(?::(?P<b>\d+))?(?::(?P<c>\d+))?")


@dataclass(frozen=True)
class Options:
    """What a submission adds to the directives of its site."""

    nodes: int = 1
    time: str | None = None
    """Time limit as SLURM writes it; None: that of the site."""
    project: str | None = None
    """Takes the place of ``{project}`` in the site's directives."""
    qos: str | None = None
    """None: the first of the site that the job fits in."""
    sbatch: tuple[str, ...] = ()
    """Further options, which go before all others."""


def minutes_of(time: str) -> float:
    """Return a time limit in minutes.

    Args:
        time: ``90`` (minutes), ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS``.

    Raises:
        ValueError: for any other text, and for no time at all.
    """
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError(f"no time limit: {time}")
    first, second, third = (int(match[name] or 0) for name in "abc")
    if match["d"] is not None:
        minutes = int(match["d"]) * 1440 + first * 60 + second + third / 60
    elif match["c"] is not None:
        minutes = first * 60 + second + third / 60
    else:
        minutes = first + second / 60
    if minutes == 0:
        raise ValueError("no time at all")
    return minutes


def directives(site: Site, options: Options) -> list[str]:
    """Return the options of ``sbatch`` for a job on whole nodes.

    Raises:
        ConfigError: with everything that does not fit together.
    """
    problems: list[Problem] = []
    if options.nodes < 1:
        problems.append(Problem("a positive whole number is needed", "--nodes", str(options.nodes)))
    words = [_filled(word, site, options, problems) for word in site.directives]
    words.append(f"--nodes={options.nodes}")
    if options.time is not None:
        words.append(f"--time={options.time}")
    if not site.requeue:
        words.append("--no-requeue")
    time = value_of([*words, *options.sbatch], "--time", "-t")
    minutes = None if time is None else _minutes(time, problems)
    qos = options.qos
    if qos is None and site.qos and value_of(options.sbatch, "--qos", "-q") is None:
        qos = _fitting_qos(site, options, minutes, problems)
    if qos is not None:
        words.append(f"--qos={qos}")
    words += options.sbatch
    problems += _check_tasks(site, words)
    problems += _check_signal(words, minutes)
    if problems:
        raise ConfigError(problems)
    return words


def value_of(words: Sequence[str], name: str, short: str) -> str | None:
    """Return the value of an option of ``sbatch``; the last counts. None if it is not given."""
    value = None
    for number, word in enumerate(words):
        if word.startswith(f"{name}="):
            value = word.partition("=")[2]
        elif word in (name, short) and number + 1 < len(words):
            value = words[number + 1]
        elif word.startswith(short) and not word.startswith("--") and len(word) > 2:
            value = word[2:]
    return value


def _filled(word: str, site: Site, options: Options, problems: list[Problem]) -> str:
    if _PROJECT not in word:
        return word
    if not options.project:
        remedy = "Give --project, or set HEADRACE_PROJECT"
        problems.append(Problem(f"{site.path} asks for a project", "--project", word, remedy))
    return word.replace(_PROJECT, options.project or "")


def _minutes(time: str, problems: list[Problem]) -> float | None:
    try:
        return minutes_of(time)
    except ValueError:
        remedy = "Write it as 20:00:00 or 1-12:00:00"
        problems.append(Problem("no time limit", "--time", time, remedy))
        return None


def _fitting_qos(
    site: Site, options: Options, minutes: float | None, problems: list[Problem]
) -> str | None:
    gpus = options.nodes * site.ranks_per_node
    hours = (minutes or 0) / 60
    for qos in site.qos:
        if hours <= qos.hours and gpus <= qos.gpus:
            return qos.name
    limits = ", ".join(f"{qos.name}: {qos.hours:g} h, {qos.gpus} GPUs" for qos in site.qos)
    value = f"{hours:g} h, {gpus} GPUs"
    remedy = f"Ask for less time or fewer nodes ({limits})"
    problems.append(Problem("no QoS of the site has room for it", "--time, --nodes", value, remedy))
    return None


def _check_tasks(site: Site, words: Sequence[str]) -> list[Problem]:
    """The tasks of a node have to be what the site's way of starting ranks needs."""
    given = value_of(words, "--ntasks-per-node", "-\0")
    needed = site.ranks_per_node if site.launch == "srun" else 1
    if given is None or given == str(needed):
        return []
    remedy = (
        f"HEADRACE_LAUNCH={site.launch} with HEADRACE_RANKS_PER_NODE={site.ranks_per_node} needs "
        f"--ntasks-per-node={needed}"
    )
    return [Problem("not the tasks that are started", "--ntasks-per-node", given, remedy)]


def _check_signal(words: Sequence[str], minutes: float | None) -> list[Problem]:
    """SLURM may send the signal up to a minute early: a checkpoint must be worth it by then."""
    if minutes is None:
        return []
    text = value_of(words, "--signal", "-\0")
    match = re.search(r"@(\d+)$", text) if text is not None else None
    seconds = int(match[1]) if match else SIGNAL_SECONDS
    if text is not None and (match is None or not text.startswith("B:USR1@")):
        remedy = "Write --signal=B:USR1@SECONDS: to the batch script, which passes it on"
        return [Problem("not the signal that jobs wait for", "--signal", text, remedy)]
    if minutes * 60 > seconds + 60:
        return []
    remedy = (
        f"Ask for more, or for a later signal with --sbatch=--signal=B:USR1@{seconds // 4 or 1}"
    )
    what = f"the job would be asked to stop as it starts, {seconds} s before its end"
    return [Problem(what, "--time", f"{minutes:g} minutes", remedy)]
