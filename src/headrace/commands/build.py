"""``headrace build``: corpus files to a source of shards."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from headrace.commands.options import add_samples_per_shard, counted, named_as_options
from headrace.corpus.readers import FORMATS
from headrace.shards.manifest import Manifest

HELP = "build a source of shards from corpus files (CoNLL, IOB2, JSON lines, GLUE, Story Cloze)"
EXAMPLE = "headrace build en_train.conll.gz --output data/en/train --language en --split-name train"

_MOST_LABELS = 20
"""Labels that are printed; the manifest has all."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="corpus file, plain or .gz")
    parser.add_argument(
        "--output", required=True, metavar="URL", help="folder of the source: a path or a URL"
    )
    parser.add_argument(
        "--language", required=True, metavar="TAG", help="BCP-47 tag: en, hi, pt-BR"
    )
    parser.add_argument(
        "--format", default="auto", choices=("auto", *FORMATS), help="default: look at the file"
    )
    parser.add_argument("--split-name", metavar="NAME", help="train, dev, test: names the shards")
    add_samples_per_shard(parser)
    parser.add_argument("--labels", metavar="NAME", help="label set or file that tags must be in")
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N sentences")
    parser.add_argument("--subset", metavar="NAME", help="subset of all sentences: clean, noisy")
    for role, what in (
        ("text", "the text"),
        ("pair", "the second text"),
        ("label", "the label"),
        ("score", "the score: a number in place of a label"),
    ):
        parser.add_argument(
            f"--{role}-column", metavar="NAME", help=f"column of {what} (default: by usual names)"
        )
    parser.add_argument(
        "--label-names",
        metavar="NAME,NAME,...",
        help="names of labels that the file has as numbers from 0 on",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="mend byte order marks, Windows line ends, I- tags without B-; counts are kept",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the folder")


def run(arguments: argparse.Namespace) -> int:
    """Build the source and print what is in it."""
    from headrace.corpus.build import build_source
    from headrace.corpus.readers import Columns

    with named_as_options(
        (
            *("output", "language", "format", "split_name", "samples_per_shard", "limit", "subset"),
            *("pair_column", "label_names", "labels"),
        )
    ):
        manifest = build_source(
            arguments.inputs,
            arguments.output,
            arguments.language,
            format=arguments.format,
            split=arguments.split_name,
            samples_per_shard=arguments.samples_per_shard,
            labels=arguments.labels,
            limit=arguments.limit,
            subset=arguments.subset,
            columns=Columns(
                arguments.text_column,
                arguments.pair_column,
                arguments.label_column,
                arguments.score_column,
                tuple(arguments.label_names.split(",")) if arguments.label_names else (),
            ),
            repair=arguments.repair,
            overwrite=arguments.overwrite,
        )
    print("\n".join(_summary(arguments.output, manifest)))
    return 0


def _summary(url: str, manifest: Manifest) -> list[str]:
    metadata = manifest.metadata
    rows: list[tuple[str, object]] = [
        ("source", url),
        ("language", metadata["language"]),
        ("shards", len(manifest.shards)),
        ("bytes", sum(shard.bytes for shard in manifest.shards)),
        ("sentences", metadata["sentences"]),
        ("tokens", metadata["tokens"]),
        *_kind(metadata),
        *((f"repaired {name}", count) for name, count in metadata["repairs"].items()),
        ("fingerprint", manifest.fingerprint),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [
        f"{name:<{width}}  {format(value, ',') if isinstance(value, int) else value}"
        for name, value in rows
    ]
    return [
        *lines,
        *_repeated(metadata["repeated_ids"]),
        *_other_languages(metadata.get("domains", {}), metadata["language"]),
    ]


def _kind(metadata: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What the samples hold: questions, labels and scores, or entities."""
    if "choices" in metadata:
        return _questions(metadata)
    if "labels" in metadata or "scores" in metadata:
        return _labels(metadata)
    return _entities(metadata["entities"])


def _labels(metadata: Mapping[str, Any]) -> list[tuple[str, object]]:
    """How many samples have each label, the most frequent one first, and the range of scores."""
    labels = sorted(metadata.get("labels", {}).items(), key=lambda item: -item[1])
    rows: list[tuple[str, object]] = []
    if labels:
        shown, rest = labels[:_MOST_LABELS], labels[_MOST_LABELS:]
        rows = [("labels", len(labels)), *((f"  {name}", count) for name, count in shown)]
        if rest:
            rows.append((f"  {len(rest):,} more", sum(count for _, count in rest)))
    if scores := metadata.get("scores"):
        rows.append(("scores", scores["samples"]))
        rows.append(("  range", f"{scores['least']:g} to {scores['greatest']:g}"))
    return rows


def _entities(entities: dict[str, int]) -> list[tuple[str, object]]:
    types = sorted(entities.items(), key=lambda item: -item[1])
    return [
        ("entities", sum(entities.values())),
        ("types", len(entities)),
        *((f"  {name}", count) for name, count in types),
    ]


def _questions(metadata: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Choices, how often each one is right, and what is asked how often."""
    return [
        ("choices", metadata["choices"]),
        *((f"  right: {int(label) + 1}", count) for label, count in metadata["answers"].items()),
        *((f"asks: {name}", count) for name, count in metadata.get("questions", {}).items()),
    ]


def _other_languages(domains: dict[str, int], language: str) -> list[str]:
    """A note if MultiCoNER II headers, whose domain is a language, name another one."""
    others = [
        name for name in domains if len(name) == 2 and name != language.partition("-")[0].lower()
    ]
    return [
        f"note: {counted(domains[name], 'sentence')} with domain={name}, but the source is built "
        f"as {language}; if that is wrong, build it again with --language {name} --overwrite"
        for name in others
    ]


def _repeated(repeated: list[dict[str, str | int]]) -> list[str]:
    """A note on sentences that are in the input more than once, and the lines of the first."""
    if not repeated:
        return []
    shown = [
        f"  {row['input']}:{row['line']} repeats line {row['first_line']}" for row in repeated[:5]
    ]
    rest = len(repeated) - len(shown)
    return [
        f"note: {counted(len(repeated), 'sentence')} the same as an earlier one, id and all; each "
        "is kept, under a key of its own (the manifest lists all)",
        *shown,
        *([f"  and {rest} more"] if rest else []),
    ]
