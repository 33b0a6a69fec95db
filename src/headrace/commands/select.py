"""``headrace select``: choose samples to train on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import xxhash
from tqdm import tqdm

from headrace.commands.options import add_shard_cache, counted, named_as_options, shard_cache_of
from headrace.errors import EXIT_DONE, Problem, UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headrace.selection import Limits
    from headrace.selection.inputs import Inputs, Sources
    from headrace.training.distributed import World

HELP = "choose samples to train on, with a certificate"
EXAMPLE = (
    "headrace select data/en/train data/hi/train --encoder models/minilm --fraction 0.1 "
    "--output data/selected"
)
_SETTINGS = (
    "rows", "fraction", "budget", "method", "trade_off", "vectors", "ids", "costs", "encoder",
    "max_length",
)  # fmt: skip
"""Names in problems that are options here."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="[NAME=]SOURCE",
        help="folder (URL) of shards; its name is its language if none is given",
    )
    given = parser.add_argument_group("what to embed with, or vectors that are there already")
    given.add_argument("--encoder", metavar="DIR_OR_NAME", help="folder or hub name of a model")
    given.add_argument(
        "--pooling",
        choices=("mean", "cls"),
        default="mean",
        help="mean of the last hidden states, or that of the first token (default: mean)",
    )
    given.add_argument(
        "--max-length",
        type=int,
        default=128,
        metavar="N",
        help="tokens of a sample that the encoder reads (default: 128)",
    )
    given.add_argument(
        "--cache",
        default=".headrace/embeddings",
        metavar="DIR",
        help="local folder of the vectors (default: .headrace/embeddings)",
    )
    given.add_argument("--vectors", metavar="FILE", help="[rows, d] floating point, .npy")
    given.add_argument(
        "--ids", metavar="FILE", help="the id of each row, one a line; its group stands before a /"
    )
    given.add_argument("--costs", metavar="FILE", help="[rows] tokens of each row, .npy")
    size = parser.add_argument_group("how much to choose: one of")
    size.add_argument("--rows", type=int, metavar="N", help="number of samples")
    size.add_argument("--fraction", type=float, metavar="SHARE", help="share of all samples")
    size.add_argument("--budget", type=int, metavar="N", help="tokens of the samples at most")
    rules = parser.add_argument_group("what has to be so")
    rules.add_argument(
        "--minimum",
        action="append",
        default=[],
        metavar="NAME=N",
        help="samples of a source at least; may be given for each",
    )
    rules.add_argument(
        "--maximum",
        action="append",
        default=[],
        metavar="NAME=N",
        help="samples of a source at most; may be given for each",
    )
    rules.add_argument(
        "--proportional", action="store_true", help="keep the shares of the sources as they are"
    )
    rules.add_argument(
        "--require", metavar="FILE", help="ids (SOURCE/KEY), one a line, that must be in"
    )
    parser.add_argument(
        "--method",
        choices=("frank_wolfe", "exact_greedy", "top_similarity", "random"),
        default="frank_wolfe",
        help="default: frank_wolfe; the last two are controls",
    )
    parser.add_argument(
        "--trade-off",
        default="10",
        metavar="LAMBDA",
        help="weight of the similarity among the chosen, or balanced: n/k - 2 (default: 10)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of random (default: 0)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the result")
    add_shard_cache(parser)


def run(arguments: argparse.Namespace) -> int:
    """Embed what is not embedded, choose, and write ids and report; or do nothing."""
    from headrace.selection.inputs import as_options
    from headrace.training.distributed import (
        environment_rank,
        environment_world_size,
        process_group,
    )
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    try:
        with named_as_options(_SETTINGS):
            if environment_world_size() == 1:
                return _run(arguments, None)
            with process_group() as world:
                return _run(arguments, world)
    except UserError as error:
        if error.joint and environment_rank() != 0:
            return error.exit_code  # the main rank prints what the ranks found together
        raise type(error)([as_options(problem) for problem in error.problems]) from error


@dataclass(frozen=True)
class _Task:
    """What the options ask for, checked; either sources or inputs are given."""

    limits: Limits
    trade_off: float | Literal["balanced"]
    output: Path
    settings: Mapping[str, Any]
    required: NDArray[np.bytes_] | None
    sources: Sources | None
    inputs: Inputs | None


def _run(arguments: argparse.Namespace, world: World | None) -> int:
    """The command on one of the ranks; None stands for a process by itself."""
    from headrace.selection import select
    from headrace.selection.inputs import rows_of
    from headrace.selection.ranks import ProcessGroup, Ranks
    from headrace.selection.results import finished, write
    from headrace.selection.vectors import ties_of
    from headrace.training.distributed import failing_together

    ranks = Ranks() if world is None else ProcessGroup(world.device)
    main = ranks.rank == 0

    def together() -> AbstractContextManager[None]:
        return nullcontext() if world is None else failing_together(world)

    with together():
        task = _checked(arguments)
        report = finished(task.output, _hash(task.settings))
    if report is not None:
        if main:
            print(f"{task.output}: there already")
            _print(report)
        return EXIT_DONE
    began = perf_counter()
    with together():
        inputs = task.inputs or _embedded(task.sources, arguments.cache, show=main)
        candidates = inputs.candidates
        ties = ties_of(candidates.ids)
        required = None
        if task.required is not None:
            required = rows_of(candidates.ids, task.required, "--require")
    embedded = perf_counter()
    total = len(candidates.ids)
    start, stop = (total * (ranks.rank + end) // ranks.size for end in (0, 1))
    part = slice(start, stop)
    if required is not None:
        required = required[(required >= start) & (required < stop)] - start
    with tqdm(
        desc="selecting",
        bar_format="{desc}: {postfix} [{elapsed}]",
        disable=None if main else True,
    ) as bar:
        found = select(
            inputs.vectors.part(start, stop),
            task.limits,
            method=arguments.method,
            trade_off=task.trade_off,
            ties=ties[part],
            names=lambda row: candidates.ids[start + row].decode(),
            groups=candidates.groups[part],
            group_names=candidates.group_names,
            costs=None if candidates.costs is None else candidates.costs[part],
            required=required,
            seed=arguments.seed,
            ranks=ranks,
            progress=bar.set_postfix_str,
        )
    seconds = {"embed": embedded - began, "select": perf_counter() - embedded}
    with together():
        if main:
            report = write(
                task.output,
                found,
                candidates,
                fingerprint=_hash(task.settings),
                settings=task.settings,
                seconds=seconds,
                sources=None if task.sources is None else task.sources.manifests,
            )
            print(f"{task.output}: {counted(len(found.rows), 'sample')} of {total:,}")
            _print(report)
    return EXIT_DONE


def _checked(arguments: argparse.Namespace) -> _Task:
    from headrace.selection.inputs import from_files
    from headrace.selection.vectors import read_ids
    from headrace.shards import storage

    problems = _combination_problems(arguments)
    limits, trade_off = _limits(arguments, problems), _trade_off(arguments.trade_off, problems)
    output = sources = required = inputs = None
    fingerprint = ""
    try:
        output = storage.local_folder(arguments.output, "--output")
    except UserError as error:
        problems += error.problems
    try:
        if arguments.require is not None:
            required = read_ids(arguments.require, "--require")
    except UserError as error:
        problems += error.problems
    try:
        if arguments.vectors is not None:
            inputs, fingerprint = from_files(arguments.vectors, arguments.ids, arguments.costs)
        else:
            sources = _sources(arguments, problems)
    except UserError as error:
        problems += error.problems
    if problems or output is None:
        raise UserError(problems)
    if sources is not None:
        fingerprint = sources.fingerprint
    settings = _settings(arguments, fingerprint, required)
    return _Task(limits, trade_off, output, settings, required, sources, inputs)


def _embedded(sources: Sources | None, cache: str, *, show: bool) -> Inputs:
    assert sources is not None
    return sources.embed(cache, show=show)


def _combination_problems(arguments: argparse.Namespace) -> list[Problem]:
    problems = []
    if arguments.vectors is None:
        if not arguments.sources or arguments.encoder is None:
            problems.append(
                Problem(
                    "nothing to choose from",
                    "SOURCE",
                    remedy="Give sources and --encoder, or --vectors",
                )
            )
        for name in ("ids", "costs"):
            if getattr(arguments, name) is not None:
                problems.append(Problem("goes with --vectors only", name, remedy="Leave it out"))
    elif arguments.sources or arguments.encoder is not None:
        problems.append(
            Problem(
                "vectors that are there already need no sources and no encoder",
                "vectors",
                arguments.vectors,
                "Give either",
            )
        )
    return problems


def _sources(arguments: argparse.Namespace, problems: list[Problem]) -> Sources | None:
    from headrace.selection.encoder import load_encoder
    from headrace.selection.inputs import Sources, by_language, named_sources
    from headrace.shards import storage
    from headrace.shards.reader import open_readers

    try:
        storage.local_folder(arguments.cache, "--cache")
    except UserError as error:
        problems += error.problems
    named = named_sources(arguments.sources, problems)
    opened = open_readers(named.values(), problems, shard_cache_of(arguments, problems))
    if problems or arguments.encoder is None:
        return None
    readers = by_language({name: opened[url] for name, url in named.items()}, problems)
    encoder = load_encoder(
        arguments.encoder, pooling=arguments.pooling, max_length=arguments.max_length
    )
    return None if problems else Sources(readers, encoder)


def _limits(arguments: argparse.Namespace, problems: list[Problem]) -> Limits:
    from headrace.selection import Limits

    quotas: dict[str, dict[str, int]] = {}
    for option in ("minimum", "maximum"):
        quotas[option] = {}
        for text in getattr(arguments, option):
            name, equals, number = text.partition("=")
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


def _settings(
    arguments: argparse.Namespace, inputs: str, required: NDArray[np.bytes_] | None
) -> dict[str, Any]:
    """All that decides what is chosen, as JSON."""
    names = ("rows", "fraction", "budget", "minimum", "maximum", "proportional", "method")
    settings = {name: getattr(arguments, name) for name in names}
    settings["trade_off"] = arguments.trade_off
    settings["required"] = None if required is None else _hash_of_ids(required)
    settings["seed"] = arguments.seed if arguments.method == "random" else None
    settings["inputs"] = inputs
    return settings


def _hash_of_ids(ids: NDArray[np.bytes_]) -> str:
    return xxhash.xxh3_128_hexdigest(b"\n".join(sorted(set(ids.tolist()))))


def _hash(settings: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(settings, sort_keys=True).encode())


def _print(report: Mapping[str, Any]) -> None:
    gap = (
        f"at most {100 * report['gap']:.2g} % below the best" if report["gap"] < 1 else "far below"
    )
    print(f"objective {report['objective']:,.6g}, bound {report['bound']:,.6g}: {gap}")
    for name, group in report["groups"].items():
        print(
            f"  {name}: {group['chosen']:,} of {group['rows']:,}, "
            f"{group['share_before']:.1%} of all, {group['share_after']:.1%} of the chosen"
        )
    place = report["first_negative_gain"]
    if place is not None and report["method"] in ("frank_wolfe", "exact_greedy"):
        balanced = report["rows"] / report["chosen"] - 2
        largest = report["suggested_trade_off"]
        lower = (
            "Choose fewer rows" if largest is None
            else f"Take --trade-off {largest:.3g} or less (n/k - 2 is {balanced:.3g})"
        )  # fmt: skip
        print(
            f"warning: from sample {place:,} on, each lowers the objective: lambda "
            f"{report['trade_off']:g} is too large for {report['chosen']:,} of {report['rows']:,} "
            f"rows. {lower}",
            file=sys.stderr,
        )
