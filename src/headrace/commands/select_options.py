"""The options of ``headrace select``, and which of them go with which."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from headrace.commands.options import add_shard_cache
from headrace.errors import Problem

_DEFAULTS = {
    "pooling": "mean", "max_length": 128,
    "vector_size": 100, "epochs": 40, "min_count": 1, "window": 5,
    "trade_off": "10", "threshold": 0.8, "parts": 16, "sample_rows": 1 << 14, "warm_passes": 0,
    "index": "auto", "neighbours": 32, "block": 1 << 18, "probes": 32, "links": 32, "width": 128,
    "seed": 0,
}  # fmt: skip
"""Of options that do not always have an effect: the parser leaves them None, so that what was
given can be told."""
_GOES_WITH: tuple[tuple[str, str, Callable[[argparse.Namespace], bool]], ...] = (
    ("shard_cache", "sources", lambda given: bool(given.sources)),
    ("pooling max_length", "--encoder", lambda given: given.encoder is not None),
    (
        "vector_size epochs min_count window dbow",
        "--embedding doc2vec",
        lambda given: given.embedding == "doc2vec",
    ),
    ("parts", "--method greedi", lambda given: given.method == "greedi"),
    ("sample_rows warm_passes", "--method one_pass", lambda given: given.method == "one_pass"),
    (
        "trade_off",
        "--objective graph_cut or graph_cut_hinge",
        lambda given: given.objective != "facility_location",
    ),
    (
        "threshold penalty",
        "--objective graph_cut_hinge",
        lambda given: given.objective == "graph_cut_hinge",
    ),
    (
        "index neighbours block lists probes links width",
        "--objective graph_cut_hinge or facility_location",
        lambda given: given.objective != "graph_cut",
    ),
    (
        "lists probes",
        "--index ivf",
        lambda given: given.objective == "graph_cut" or given.index in (None, "auto", "ivf"),
    ),
    (
        "links width",
        "--index hnsw or nn_descent",
        lambda given: given.objective == "graph_cut" or given.index in ("hnsw", "nn_descent"),
    ),
    (
        "seed",
        "--method random or one_pass, or --embedding doc2vec",
        lambda given: given.method in ("random", "one_pass") or given.embedding == "doc2vec",
    ),
)
"""Names of options, what they go with, and whether that was asked for."""


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
        help="mean of the last hidden states, or that of the first token (default: mean)",
    )
    given.add_argument(
        "--max-length",
        type=int,
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
    for name, meaning in (
        ("vector_size", "length of a vector"),
        ("epochs", "times that all samples are read"),
        ("min_count", "rarer words are left out"),
        ("window", "words on each side that a word is predicted from"),
    ):
        trained.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            metavar="N",
            help=f"{meaning} (default: {_DEFAULTS[name]})",
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
        metavar="N",
        help="parts in which greedi cuts the samples, for the ranks to share (default: 16)",
    )
    what.add_argument(
        "--sample-rows",
        type=int,
        metavar="N",
        help="samples that one_pass solves first (default: 16384)",
    )
    what.add_argument(
        "--warm-passes",
        type=int,
        metavar="N",
        help="passes of one_pass that correct what these say (default: 0)",
    )
    what.add_argument(
        "--trade-off",
        metavar="LAMBDA",
        help="weight of the similarity among the chosen, or balanced: n/k - 2 (default: 10)",
    )
    what.add_argument(
        "--threshold",
        type=float,
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
        help="of FAISS; auto is flat, which is exact, up to 50,000 rows, and ivf beyond "
        "(default: auto)",
    )
    for name, default, meaning in (
        ("neighbours", "32", "neighbours of each sample"),
        ("block", "262144", "samples of one index at most"),
        ("lists", "4 times the root of the rows of an index", "lists of ivf"),
        ("probes", "32", "lists of ivf that a query looks into"),
        ("links", "32", "links of a row of hnsw, half those that nn_descent starts from"),
        ("width", "128", "candidates that a search of hnsw or nn_descent keeps"),
    ):
        group.add_argument(
            f"--{name}",
            type=int,
            metavar="N",
            help=f"{meaning} (default: {default})",
        )


def without_effect(given: argparse.Namespace) -> list[Problem]:
    """Options that were given and would change nothing."""
    problems = []
    for names, partner, effective in _GOES_WITH:
        if effective(given):
            continue
        for name in names.split():
            value: Any = getattr(given, name)
            if value is not None and value is not False:
                problems.append(
                    Problem(
                        "it would have no effect",
                        "--" + name.replace("_", "-"),
                        None if value is True else str(value),
                        f"Leave it out: it goes with {partner}",
                    )
                )
    return problems


def give_defaults(given: argparse.Namespace) -> None:
    """Set the options that were left out."""
    for name, default in _DEFAULTS.items():
        if getattr(given, name) is None:
            setattr(given, name, default)
