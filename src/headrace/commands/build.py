"""``headrace build``: corpus files to a source of shards, or a recipe to a whole corpus."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from headrace.commands import build_recipe
from headrace.commands.options import add_samples_per_shard, counted, named_as_options
from headrace.corpus.readers import FORMATS
from headrace.errors import CorpusError, Problem
from headrace.shards.manifest import Manifest

HELP = "build a corpus from a recipe, or a source of shards from labelled files (CoNLL, JSON lines)"
EXAMPLE = (
    "headrace build --recipe recipes/twelve_languages.yaml --output corpora/twelve\n"
    "  headrace build en_train.conll.gz --output data/en/train --language en --split-name train"
)

_SOURCE_DEFAULTS: Mapping[str, Any] = {
    "format": "auto",
    "samples_per_shard": 10_000,
    "repair": False,
    **dict.fromkeys(("split_name", "labels", "limit", "subset", "label_names")),
    **dict.fromkeys(("text_column", "pair_column", "label_column", "score_column")),
}
"""Options that only labelled files have."""
_MOST_LABELS = 20
"""Labels that are printed; the manifest has all."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="labelled corpus file, plain or .gz"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="URL",
        help="folder of the source, a path or a URL; of a corpus a path",
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--recipe", metavar="FILE", help="build a corpus: YAML, see docs/corpus.md")
    kind.add_argument(
        "--language", metavar="TAG", help="build a source of labelled files: BCP-47 tag en, pt-BR"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the folder")
    build_recipe.configure(parser.add_argument_group("with --recipe"))
    _configure_source(parser.add_argument_group("with --language"))


def _configure_source(parser: argparse._ArgumentGroup) -> None:
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


def run(arguments: argparse.Namespace) -> int:
    """Build the source or the corpus, and print what is in it."""
    _check_options(arguments)
    if arguments.recipe is not None:
        return build_recipe.run(arguments)
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


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that would have no effect, and labelled files that are not named."""
    of_corpus = arguments.recipe is not None
    defaults = {**_SOURCE_DEFAULTS, "inputs": []} if of_corpus else build_recipe.DEFAULTS
    option = "--recipe" if of_corpus else "--language"
    problems = []
    for name, default in defaults.items():
        value = getattr(arguments, name)
        if value != default:
            where = "INPUT" if name == "inputs" else "--" + name.replace("_", "-")
            what = f"it has no effect with {option}"
            problems.append(Problem(what, where, str(value), "Leave it out"))
    if not of_corpus and not arguments.inputs:
        problems.append(Problem("no labelled file is named", "INPUT", None, "Name at least one"))
    if problems:
        raise CorpusError(problems)


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
