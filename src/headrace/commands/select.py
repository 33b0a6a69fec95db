"""``headrace select``: choose samples to train on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from headrace.commands.options import counted, named_as_options, shard_cache_of
from headrace.commands.select_options import configure, give_defaults, without_effect
from headrace.errors import EXIT_DONE, Problem, UserError

if TYPE_CHECKING:
    from headrace.selection import Limits
    from headrace.selection.doc2vec import Doc2VecSettings
    from headrace.selection.job import SelectionJob

__all__ = ["EXAMPLE", "HELP", "configure", "run"]

HELP = "choose samples to train on, with a certificate"
EXAMPLE = (
    "headrace select data/en/train data/hi/train --encoder models/minilm --fraction 0.1 "
    "--output data/selected"
)
_SETTINGS = (
    "rows", "fraction", "budget", "method", "trade_off", "vectors", "ids", "costs", "encoder",
    "max_length", "embedding", "vector_size", "epochs", "min_count", "window", "seed", "output",
    "sample_rows", "warm_passes",
    "require", "cache", "minimum", "maximum", "proportional", "index", "neighbours", "block",
    "lists", "probes", "links", "width", "threshold", "penalty", "parts",
    "duplicate_cosine", "group_by", "checkpoint_seconds",
)  # fmt: skip
"""Names in problems that are options here."""


def run(arguments: argparse.Namespace) -> int:
    """Embed what is not embedded, choose, and write ids and report; or do nothing."""
    from headrace.selection.carry_out import run_selection
    from headrace.selection.inputs import as_options
    from headrace.training.distributed import (
        environment_rank,
        environment_world_size,
        process_group,
    )
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    alone = environment_world_size() == 1
    try:
        with named_as_options(_SETTINGS), nullcontext() if alone else process_group() as world:
            problems = without_effect(arguments)
            give_defaults(arguments)
            outcome = run_selection(_job(arguments, problems), world, problems=problems)
    except UserError as error:
        if error.joint and environment_rank() != 0:
            return error.exit_code  # the main rank prints what the ranks found together
        raise error.renamed(as_options) from error
    if environment_rank() == 0:
        report = outcome.report
        done = (
            f"{counted(report['chosen'], 'sample')} of {report['rows']:,}" if outcome.made
            else "there already"
        )  # fmt: skip
        print(f"{arguments.output}: {done}")
        _print(report)
    return EXIT_DONE


def _job(arguments: argparse.Namespace, problems: list[Problem]) -> SelectionJob:
    from headrace.selection.hinge import Hinge
    from headrace.selection.indexes import IndexSettings
    from headrace.selection.inputs import named_sources
    from headrace.selection.job import SelectionJob

    if arguments.seed < 0:
        problems.append(Problem("out of range", "--seed", str(arguments.seed), "Give 0 or more"))
    return SelectionJob(
        output=arguments.output,
        limits=_limits(arguments, problems),
        sources=named_sources(arguments.sources, problems),
        encoder=arguments.encoder,
        pooling=arguments.pooling,
        max_length=arguments.max_length,
        doc2vec=_doc2vec(arguments),
        cache=arguments.cache,
        shard_cache=shard_cache_of(arguments, problems),
        vectors=arguments.vectors,
        ids=arguments.ids,
        costs=arguments.costs,
        group_by=arguments.group_by,
        require=arguments.require,
        objective=arguments.objective,
        hinge=Hinge(arguments.threshold, arguments.penalty),
        parts=arguments.parts,
        method=arguments.method,
        index=IndexSettings(
            arguments.index,
            arguments.neighbours,
            arguments.block,
            arguments.lists,
            arguments.probes,
            arguments.links,
            arguments.width,
        ),
        trade_off=_trade_off(arguments.trade_off, problems),
        seed=arguments.seed,
        sample_rows=arguments.sample_rows,
        warm_passes=arguments.warm_passes,
        duplicate_cosine=arguments.duplicate_cosine,
        checkpoint_seconds=arguments.checkpoint_seconds,
    )


def _doc2vec(arguments: argparse.Namespace) -> Doc2VecSettings | None:
    from headrace.selection.doc2vec import Doc2VecSettings

    if arguments.embedding != "doc2vec":
        return None
    return Doc2VecSettings(
        arguments.vector_size,
        arguments.epochs,
        arguments.min_count,
        arguments.window,
        not arguments.dbow,
        arguments.seed,
    )


def _limits(arguments: argparse.Namespace, problems: list[Problem]) -> Limits:
    from headrace.selection import Limits

    quotas: dict[str, dict[str, int]] = {}
    for option in ("minimum", "maximum"):
        quotas[option] = {}
        for text in getattr(arguments, option):
            name, equals, number = text.rpartition("=")
            if not (name and equals and number.isdecimal()):
                problems.append(Problem("not a quota", f"--{option}", text, "Write it as NAME=100"))
            elif name in quotas[option]:
                problems.append(Problem("given twice", f"--{option} {name}", text, "Give it once"))
            else:
                quotas[option][name] = int(number)
    return Limits(
        arguments.rows,
        arguments.fraction,
        arguments.budget,
        quotas["minimum"],
        quotas["maximum"],
        arguments.proportional,
    )


def _trade_off(text: str, problems: list[Problem]) -> float | Literal["balanced"]:
    if text == "balanced":
        return "balanced"
    try:
        return float(text)
    except ValueError:
        problems.append(
            Problem("not a number", "trade_off", text, "Give a number, 0 or more, or balanced")
        )
        return 0.0


def _print(report: Mapping[str, Any]) -> None:
    from headrace.selection.knee import knee_warning

    gap = (
        f"at most {100 * report['gap']:.2g} % below the best" if report["gap"] < 1 else "far below"
    )
    print(f"objective {report['objective']:,.6g}, bound {report['bound']:,.6g}: {gap}")
    for name, group in report["groups"].items():
        print(
            f"  {name}: {group['chosen']:,} of {group['rows']:,}, "
            f"{group['share_before']:.1%} of all, {group['share_after']:.1%} of the chosen"
        )
    coverage, copies = report["coverage"], report["duplicates"]
    if coverage is not None:
        print(
            f"coverage {coverage['chosen']:.3f}, of as many random rows {coverage['random']:.3f}; "
            f"{copies['share']:.1%} of the chosen are near-copies of others among them"
        )
    warning = knee_warning(report, "--trade-off")
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
