"""``headrace interpolate``: a model between two exported ones."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.commands.options import named_as_options, urls_by_language
from headrace.errors import EXIT_DONE, Problem, UserError

if TYPE_CHECKING:
    from headrace.forgetting.interpolate import Interpolation
    from headrace.report.tables import Table

HELP = "mix the weights of two exported models"
EXAMPLE = (
    "headrace interpolate runs/x/first/all/export runs/x/second/all/export "
    "--output runs/x/between --choose --validation qnli=data/qnli/dev med=data/med/dev"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("first", metavar="FIRST", help="exported model, before a training")
    parser.add_argument("second", metavar="SECOND", help="exported model, behind it")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the new export")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--alpha", type=float, metavar="SHARE", help="share of the second model, 0 to 1"
    )
    how.add_argument(
        "--choose", action="store_true", help="take the share with the best scores of --validation"
    )
    parser.add_argument(
        "--validation", nargs="+", default=[], metavar="LANG=URL", help="sources to measure on"
    )
    parser.add_argument(
        "--grid",
        nargs="+",
        type=float,
        metavar="SHARE",
        help="with --choose: shares to try (default: 0, 0.1, ..., 1)",
    )
    parser.add_argument(
        "--criterion",
        metavar="SCORE",
        help="with --choose: score whose mean over the sources decides (default: of each source "
        "the first that the task has)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="samples at once (default: 32)"
    )
    parser.add_argument(
        "--cache",
        default=".headrace/encoded",
        metavar="DIR",
        help="local folder for encoded data (default: .headrace/encoded)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Mix, with the share that is given or with the best one."""
    output, cache, urls = _checked(arguments)

    from headrace.forgetting.interpolate import GRID, interpolate
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    with named_as_options(("output", "alpha", "grid", "criterion", "validation")):
        result = interpolate(
            arguments.first,
            arguments.second,
            output,
            alpha=arguments.alpha,
            validation=urls,
            grid=arguments.grid or GRID,
            criterion=arguments.criterion,
            cache_dir=cache,
            batch_size=arguments.batch_size,
        )
    if result.trials:
        print(table(result).text(), end="")
        print("Scores are per cent.")
    print(f"alpha {result.alpha:g}: {output}")
    return EXIT_DONE


def _checked(arguments: argparse.Namespace) -> tuple[Path, Path, dict[str, str]]:
    """The output, the cache and source -> URL; all options are checked."""
    from headrace.shards import storage

    problems: list[Problem] = []
    urls = urls_by_language(arguments.validation, "--validation", problems)
    if arguments.batch_size < 1:
        value = str(arguments.batch_size)
        problems.append(Problem("out of range", "--batch-size", value, "Give 1 or more"))
    if not arguments.choose:
        problems += [
            Problem("it has a part in choosing alone", option, remedy="Leave it out, or --alpha")
            for option, value in (("--grid", arguments.grid), ("--criterion", arguments.criterion))
            if value is not None
        ]
    folders = []
    for option, text in (("--output", arguments.output), ("--cache", arguments.cache)):
        try:
            folders.append(storage.local_folder(text, option))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    output, cache = folders
    return output, cache, urls


def table(result: Interpolation) -> Table:
    """One row a share: the score that decides of each source, their mean, the loss."""
    from headrace.report import numbers
    from headrace.report.tables import Table

    sources = list(result.trials[0].metrics)
    rows = [
        (
            f"{trial.alpha:g}" + (" *" if trial.alpha == result.alpha else ""),
            *(numbers.percent(trial.scores[source]) for source in sources),
            numbers.percent(trial.score),
            numbers.loss(trial.loss),
        )
        for trial in result.trials
    ]
    return Table("Mixtures", ("Alpha", *sources, "Mean", "Loss"), tuple(rows))
