"""``headrace build --recipe``: the options of a corpus, its plan before and its summary after."""

from __future__ import annotations

import argparse
import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, CorpusError, Problem, StopRequested

if TYPE_CHECKING:
    from headrace.corpus.building.parts import Part
    from headrace.corpus.recipe import LoadedRecipe

DEFAULTS: Mapping[str, Any] = {
    "workers": None, "scheduler": None, "dry_run": False, "keep_intermediate": False,
}  # fmt: skip
"""Options that only a recipe has."""


def configure(parser: argparse._ActionsContainer) -> None:
    """Add the options."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that examine documents on this machine (default: one a core)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler whose workers build, or the file that it has written",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check the recipe, show the plan, build nothing"
    )
    parser.add_argument(
        "--keep-intermediate",
        action="store_true",
        help="keep the folder .build, which has what lies between the stages",
    )


def run(arguments: argparse.Namespace) -> int:
    """Build the corpus and print what is in it."""
    from headrace.corpus.recipe import load_recipe
    from headrace.shards import storage

    if arguments.workers is not None and arguments.workers < 1:
        problem = Problem("must be at least 1", "--workers", str(arguments.workers), "Raise it")
        raise CorpusError(problem)
    if arguments.workers is not None and arguments.scheduler is not None:
        what = "the workers of a scheduler are started elsewhere"
        problem = Problem(what, "--workers", str(arguments.workers), "Leave it out")
        raise CorpusError(problem)
    output = storage.local_folder(arguments.output, "--output")
    loaded = load_recipe(Path(arguments.recipe), output)
    from headrace.corpus.building.build import build_corpus, cut_files
    from headrace.corpus.building.workers import local_workers, workers_of

    if arguments.dry_run:
        print("\n".join(_plan(loaded, cut_files(loaded))))
        return EXIT_DONE
    if arguments.scheduler is not None:
        open_workers = partial(workers_of, arguments.scheduler)
    else:
        open_workers = partial(local_workers, arguments.workers or len(os.sched_getaffinity(0)))
    # SLURM sends it before the time limit: what is done is kept, the next start goes on
    signal.signal(signal.SIGUSR1, _stop)
    document = build_corpus(
        loaded,
        output,
        open_workers,
        overwrite=arguments.overwrite,
        keep_intermediate=arguments.keep_intermediate,
    )
    print("\n".join(_summary(output, document)))
    return EXIT_DONE


def _stop(number: int, frame: FrameType | None) -> None:
    raise StopRequested("asked to stop; the same command goes on with the build")


def _plan(loaded: LoadedRecipe, parts: Sequence[Part]) -> list[str]:
    """What would be read."""
    rows = [("source", "licence", "files", "parts", "bytes")]
    numbers: Counter[int] = Counter(part.slices[0].file.source for part in parts)
    for number, source in enumerate(loaded.recipe.sources):
        own = [file for file in loaded.files if file.source == number]
        size = sum(file.stamp.size for file in own)
        row = (source.id, source.licence, f"{len(own):,}", f"{numbers[number]:,}", f"{size:,}")
        rows.append(row)
    return [*_table(rows), f"{counted(len(parts), 'part')}; nothing was built"]


def _summary(output: Path, document: Mapping[str, Any]) -> list[str]:
    """Documents by source and language, what was left out and why, and warnings."""
    names = ("read", "written", "filtered", "quarantined")
    rows: list[tuple[str, ...]] = [("source", *names)]
    counts = document["counts"]
    for source, one in counts.items():
        rows.append((source, *(f"{one[name]:,}" for name in names)))
    totals = {name: sum(one[name] for one in counts.values()) for name in names}
    rows.append(("all", *(f"{totals[name]:,}" for name in names)))
    lines = [f"{document['name']} {document['version']} in {output}", "", *_table(rows), ""]
    rows = [("language", "documents", "bytes", "shards")]
    for language, one in document["languages"].items():
        numbers = (one["documents"], one["bytes"], one["shards"])
        rows.append((language, *(f"{number:,}" for number in numbers)))
    lines += [*_table(rows), ""]
    for title, key in (("left out", "rules"), ("in quarantine", "reasons")):
        found: Counter[str] = Counter()
        for one in counts.values():
            found.update(one[key])
        if found:
            said = ", ".join(f"{name} {number:,}" for name, number in found.most_common())
            lines.append(f"{title}: {said}")
    if document["private"]:
        said = ", ".join(f"{name} {number:,}" for name, number in document["private"].items())
        lines.append(f"private information: {said}")
    return [*lines, *(f"warning: {warning}" for warning in document["warnings"])]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns of one width each, numbers to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [
            cell.rjust(width) if _is_number(rows[-1][place]) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row[1:], widths[1:], strict=True), 1)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _is_number(text: str) -> bool:
    return text.replace(",", "").isdigit()
