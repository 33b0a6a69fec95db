"""``headrace select``: choose samples to train on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from headrace.commands.options import add_shard_cache, counted, named_as_options, shard_cache_of
from headrace.errors import EXIT_DONE, Problem, UserError

if TYPE_CHECKING:
    from headrace.selection import Limits
    from headrace.selection.doc2vec import Doc2VecSettings
    from headrace.selection.job import SelectionJob

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
        "--embedding",
        choices=("encoder", "doc2vec"),
        default="encoder",
        help="vectors of --encoder, or of a Doc2Vec model trained on the samples themselves "
        "(default: encoder)",
    )
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
    given.add_argument(
        "--vectors",
        metavar="FILE",
        help="[rows, d] floating point, .npy; or .parquet (folder, pattern) with a column vector, "
        "or FILE:COLUMN",
    )
    given.add_argument(
        "--ids", metavar="FILE", help="the id of each row, one a line; its group stands before a /"
    )
    given.add_argument("--costs", metavar="FILE", help="[rows] tokens of each row, .npy")
    trained = parser.add_argument_group("how --embedding doc2vec is trained")
    for name, default, meaning in (
        ("vector-size", 100, "length of a vector"),
        ("epochs", 40, "times that all samples are read"),
        ("min-count", 1, "rarer words are left out"),
        ("window", 5, "words on each side that a word is predicted from"),
    ):
        trained.add_argument(
            f"--{name}",
            type=int,
            default=default,
            metavar="N",
            help=f"{meaning} (default: {default})",
        )
    trained.add_argument(
        "--dbow", action="store_true", help="bag of words in place of distributed memory"
    )
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
        help="samples of a source or group at least; may be given for each",
    )
    rules.add_argument(
        "--maximum",
        action="append",
        default=[],
        metavar="NAME=N",
        help="samples of a source or group at most; may be given for each",
    )
    rules.add_argument(
        "--proportional",
        action="store_true",
        help="keep the shares of the sources or groups as they are",
    )
    rules.add_argument(
        "--group-by",
        metavar="FIELD",
        help="the groups of quotas are the values of this field of the samples' json, "
        "not the sources",
    )
    rules.add_argument(
        "--require", metavar="FILE", help="ids (SOURCE/KEY), one a line, that must be in"
    )
    what = parser.add_argument_group("what is maximised, and how")
    what.add_argument(
        "--objective",
        choices=("graph_cut", "graph_cut_hinge", "facility_location"),
        default="graph_cut",
        help="similar to all and not to each other; the same without near-copies; near to each "
        "one (default: graph_cut)",
    )
    what.add_argument(
        "--method",
        choices=(
            "frank_wolfe",
            "exact_greedy",
            "lazy_greedy",
            "greedi",
            "one_pass",
            "top_similarity",
            "random",
        ),
        help="graph_cut: frank_wolfe (default), exact_greedy or one_pass; graph_cut_hinge: "
        "exact_greedy or greedi; facility_location: lazy_greedy or greedi; the last two are "
        "controls",
    )
    what.add_argument(
        "--parts",
        type=int,
        default=16,
        metavar="N",
        help="parts in which greedi cuts the samples, for the ranks to share (default: 16)",
    )
    what.add_argument(
        "--sample-rows",
        type=int,
        default=1 << 14,
        metavar="N",
        help=f"samples that one_pass solves first (default: {1 << 14})",
    )
    what.add_argument(
        "--warm-passes",
        type=int,
        default=0,
        metavar="N",
        help="passes of one_pass that correct what these say (default: 0)",
    )
    what.add_argument(
        "--trade-off",
        default="10",
        metavar="LAMBDA",
        help="weight of the similarity among the chosen, or balanced: n/k - 2 (default: 10)",
    )
    what.add_argument(
        "--threshold",
        type=float,
        default=0.8,
        metavar="C",
        help="graph_cut_hinge: cosine from which chosen neighbours cost something (default: 0.8)",
    )
    what.add_argument(
        "--penalty",
        type=float,
        metavar="MU",
        help="graph_cut_hinge: what they cost for each unit of cosine over the threshold "
        "(default: n / (1 - C), with which no copy is worth it)",
    )
    _add_index(parser)
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of random, one_pass and doc2vec (default: 0)",
    )
    parser.add_argument(
        "--duplicate-cosine",
        type=float,
        default=0.95,
        metavar="C",
        help="the report counts rows as near-copies from this cosine on (default: 0.95)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the result")
    parser.add_argument(
        "--checkpoint-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="how often to write below the output what the solver has reached (default: 60)",
    )
    add_shard_cache(parser)
    # DeepSpeed's launcher adds this to every command; the environment says the same
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def _add_index(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "how neighbours are looked for, for graph_cut_hinge and facility_location"
    )
    group.add_argument(
        "--index",
        choices=("auto", "flat", "ivf", "hnsw", "nn_descent"),
        default="auto",
        help="of FAISS; auto is flat, which is exact, up to 50,000 rows, and ivf beyond "
        "(default: auto)",
    )
    for name, default, meaning in (
        ("neighbours", "32", "neighbours of each sample"),
        ("block", f"{1 << 18}", "samples of one index at most"),
        ("lists", "4 times the root of the rows of an index", "lists of ivf"),
        ("probes", "32", "lists of ivf that a query looks into"),
        ("links", "32", "links of a row of hnsw, half those that nn_descent starts from"),
        ("width", "128", "candidates that a search of hnsw or nn_descent keeps"),
    ):
        group.add_argument(
            f"--{name}",
            type=int,
            default=int(default) if default.isdecimal() else None,
            metavar="N",
            help=f"{meaning} (default: {default})",
        )


def run(arguments: argparse.Namespace) -> int:
    """Embed what is not embedded, choose, and write ids and report; or do nothing."""
    from headrace.selection.inputs import as_options
    from headrace.selection.job import run_selection
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
            problems: list[Problem] = []
            outcome = run_selection(_job(arguments, problems), world, problems=problems)
    except UserError as error:
        if error.joint and environment_rank() != 0:
            return error.exit_code  # the main rank prints what the ranks found together
        raise type(error)([as_options(problem) for problem in error.problems]) from error
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
