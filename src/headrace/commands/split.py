"""``headrace split``: parts of a source by share, by length or by clusters."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from headrace.commands.options import add_samples_per_shard, named_as_options
from headrace.counts import counted
from headrace.errors import EXIT_DONE, Problem, UserError

if TYPE_CHECKING:
    from headrace.corpus.split_rules import Rule

HELP = "split a source into parts: by share, by length, or by clusters of embeddings"
EXAMPLE = "headrace split data/qnli --output data/qnli-parts --by share 0.8,0.1,0.1"
_SETTINGS = (
    "output", "by", "names", "stratify", "at", "tokenizer", "model", "max_length", "cache",
    "label", "seed", "limit", "samples_per_shard",
)  # fmt: skip
"""Names in problems that are options here."""
_GOES_WITH = {
    "stratify": "share",
    "at": "length",
    "tokenizer": "length",
    "model": "clusters",
    "max_length": "clusters",
    "cache": "clusters",
    "label": "clusters",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("source", metavar="SOURCE", help="folder of the source: a path or a URL")
    parser.add_argument(
        "--output", required=True, metavar="URL", help="folder of the split, one folder a part"
    )
    parser.add_argument(
        "--by",
        required=True,
        nargs="+",
        metavar=("share SHARES|length|clusters K", ""),
        help="shares as 0.8,0.1,0.1 or 1/3,2/3; short and long texts; K clusters of embeddings",
    )
    parser.add_argument(
        "--names",
        metavar="NAME,...",
        help="of the parts (default: train,validation,test; train,test; short,long; cluster-0,...)",
    )
    parser.add_argument(
        "--stratify",
        metavar="FIELD",
        help="share: split the samples of each value of this field by the shares",
    )
    parser.add_argument(
        "--at",
        metavar="mean|median|N",
        help="length: the longest short text (default: mean)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="DIR_OR_NAME",
        help="length: count the pieces of this tokenizer (default: count words)",
    )
    parser.add_argument(
        "--model", metavar="DIR_OR_NAME", help="clusters: the model that embeds the texts"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="clusters: tokens of a text that the model reads (default: 128)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="clusters: local folder of the embeddings (default: .headrace/embeddings)",
    )
    parser.add_argument(
        "--label",
        metavar="FIELD",
        help="clusters: field that the report compares them with (default: label, where it is)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed, other parts (default: 0)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="split N samples, drawn by text and seed"
    )
    add_samples_per_shard(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the split that is in the folder"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the parts, or find them there already, and say how large they are."""
    from headrace.corpus.split import split_source
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    problems: list[Problem] = []
    with named_as_options(_SETTINGS):
        rule = _rule(arguments, problems)
        if rule is None:
            raise UserError(problems)
        split = split_source(
            arguments.source,
            arguments.output,
            rule,
            names=None if arguments.names is None else arguments.names.split(","),
            seed=arguments.seed,
            limit=arguments.limit,
            samples_per_shard=arguments.samples_per_shard,
            overwrite=arguments.overwrite,
            problems=problems,
        )
    print(f"{arguments.output}: {'written' if split.made else 'there already'}")
    _print(split.record)
    return EXIT_DONE


def _rule(given: argparse.Namespace, problems: list[Problem]) -> Rule | None:
    """The rule of ``--by``; None if it cannot be made out."""
    kind, *values = given.by
    makers: Mapping[str, Callable[[], Rule | None]] = {
        "share": lambda: _by_share(given, values, problems),
        "length": lambda: _by_length(given, values, problems),
        "clusters": lambda: _by_clusters(given, values, problems),
    }
    if kind not in makers:
        remedy = "Write share 0.8,0.1,0.1 or length or clusters 2"
        problems.append(Problem("no such way to split", "by", kind, remedy))
        return None
    for option, partner in _GOES_WITH.items():
        value = getattr(given, option)
        if value is not None and partner != kind:
            remedy = f"Leave it out: it goes with --by {partner}"
            problems.append(Problem("it would have no effect", option, str(value), remedy))
    return makers[kind]()


def _by_share(given: argparse.Namespace, values: list[str], problems: list[Problem]) -> Rule | None:
    from headrace.corpus.split_rules import ByShare

    try:
        (text,) = values
        shares = tuple(Fraction(share) for share in text.split(","))
    except (ValueError, ZeroDivisionError):
        remedy = "Write them with commas: --by share 0.8,0.1,0.1"
        problems.append(Problem("not a list of shares", "by", " ".join(values), remedy))
        return None
    return ByShare(shares, given.stratify)


def _by_length(given: argparse.Namespace, values: list[str], problems: list[Problem]) -> Rule:
    from headrace.forgetting.shifts import ByLength

    if values:
        remedy = "Leave it out; SOURCE comes before --by"
        problems.append(Problem("length takes no value", "by", " ".join(values), remedy))
    if given.at in (None, "mean"):
        return ByLength("mean", given.tokenizer)
    if given.at == "median":
        return ByLength("median", given.tokenizer)
    try:
        return ByLength(Fraction(given.at), given.tokenizer)
    except (ValueError, ZeroDivisionError):
        remedy = "Write mean, median or a number of words"
        problems.append(Problem("not a length", "at", given.at, remedy))
        return ByLength("mean", given.tokenizer)


def _by_clusters(
    given: argparse.Namespace, values: list[str], problems: list[Problem]
) -> Rule | None:
    from headrace.forgetting.shifts import ByClusters

    count = int(values[0]) if len(values) == 1 and values[0].isdecimal() else None
    if count is None:
        remedy = "Write --by clusters 2"
        what = "not a number of clusters"
        problems.append(Problem(what, "by", " ".join(values) or None, remedy))
    if given.model is None:
        remedy = "Name the folder of a pretrained model"
        problems.append(Problem("clusters are of the embeddings of a model", "model", None, remedy))
    if count is None or given.model is None:
        return None
    options = {
        name: getattr(given, name)
        for name in ("max_length", "cache", "label")
        if getattr(given, name) is not None
    }
    return ByClusters(count, given.model, **options)


def _print(record: Mapping[str, Any]) -> None:
    for name, part in record["parts"].items():
        print(f"  {name}: {counted(part['samples'], 'sample')}, {part['share']:.1%}")
    if "boundary" in record:
        print(
            f"boundary {record['boundary']:.4g} {record['unit']}; "
            f"mean {record['mean_length']:.4g}, median {record['median_length']:.4g}"
        )
    if "silhouette" in record:
        print(f"silhouette {record['silhouette']:.3f}", end="")
        if "purity" in record:
            of_one = record["largest_label"]
            print(
                f", purity {record['purity']:.3f} (of one cluster: {of_one:.3f}), "
                f"inverse purity {record['inverse_purity']:.3f}",
                end="",
            )
        print()
