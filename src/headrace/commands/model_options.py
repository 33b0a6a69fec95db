"""What commands share that show sources to the models of a run: options, checks, which serves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from headrace.commands.options import urls_by_language
from headrace.errors import ConfigError, Problem, UserError


def add_model_options(parser: argparse.ArgumentParser, *, purpose: str) -> None:
    """Add the options of sources, of the choice of a model, and of its use."""
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="LANG=URL", help=f"sources to {purpose}"
    )
    parser.add_argument(
        "--stage", metavar="NAME", help="stage of the run folder (default: the last)"
    )
    parser.add_argument(
        "--branch",
        metavar="NAME",
        help="branch of the stage, for every language (default: each language has its own)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="samples at once (default: 32)"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens of a sequence at most (default: as the model was trained)",
    )
    parser.add_argument(
        "--head",
        metavar="NAME",
        help="head of a sequence classifier that answers for all sources (default: each source has "
        "the head that it was trained with)",
    )
    parser.add_argument(
        "--cache",
        default=".headrace/encoded",
        metavar="DIR",
        help="local folder for encoded data (default: .headrace/encoded)",
    )


def check_model_options(
    arguments: argparse.Namespace, problems: list[Problem]
) -> tuple[dict[str, str], Path]:
    """``["en=URL", ...]`` as language -> URL, and the cache folder."""
    from headrace.shards import storage

    urls = urls_by_language(arguments.data, "--data", problems)
    if arguments.batch_size < 1:
        value = str(arguments.batch_size)
        problems.append(Problem("out of range", "--batch-size", value, "Give 1 or more"))
    cache = Path()
    try:
        cache = storage.local_folder(arguments.cache, "--cache")
    except UserError as error:
        problems += error.problems
    return urls, cache


def served_models(
    name: str, languages: Sequence[str], arguments: argparse.Namespace
) -> dict[str, list[str]]:
    """Which models serve the languages: a model all of them, of a run folder each its own."""
    from headrace.training.models_of_run import is_run_folder, models_of_run

    if is_run_folder(Path(name)):
        models = models_of_run(
            Path(name), languages, stage=arguments.stage, branch=arguments.branch
        )
        return {str(folder): served for folder, served in models.items()}
    if arguments.stage or arguments.branch:
        raise ConfigError(
            Problem(
                "--stage and --branch choose a model of a run, and this is not a run folder",
                name,
                remedy="Leave them out, or give the run folder",
            )
        )
    return {name: list(languages)}
