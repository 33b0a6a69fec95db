"""``headrace lexicon``: score the longest-match lexicon baseline on shards."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

from headrace.errors import EXIT_DONE, ConfigError, LabelError, Problem

if TYPE_CHECKING:
    from headrace.shards import ShardReader
    from headrace.tasks.labels import LabelSet
    from headrace.tasks.lexicon import Lexicon

HELP = "score the longest-match lexicon baseline of named entity recognition"
EXAMPLE = (
    "headrace lexicon --train ner/en/train ner/hi/train --evaluate en=ner/en/dev hi=ner/hi/dev "
    "--labels multiconer_v2 --json baseline.json"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--train", nargs="+", required=True, metavar="URL", help="sources to collect entities from"
    )
    parser.add_argument(
        "--evaluate",
        nargs="+",
        required=True,
        metavar="LANG=URL",
        help="sources to score, each with the language it is reported under",
    )
    parser.add_argument(
        "--labels", required=True, help="label set: a built-in name or the path of a .json file"
    )
    parser.add_argument(
        "--per-language",
        action="store_true",
        help="use only the training sentences of a language for that language",
    )
    parser.add_argument(
        "--lower-case", action="store_true", help="compare words without regard to case"
    )
    parser.add_argument("--json", metavar="FILE", help="write all scores to FILE, or - for stdout")


def run(arguments: argparse.Namespace) -> int:
    """Build the lexicon, score every source, print a table and write the JSON file."""
    from tqdm import tqdm

    from headrace.shards import ShardReader, storage
    from headrace.tasks.labels import load_label_set
    from headrace.tasks.ner_metrics import NerScores

    urls = _by_language(arguments.evaluate)
    label_set = load_label_set(arguments.labels)
    train = [ShardReader(url) for url in arguments.train]
    evaluation = {language: ShardReader(url) for language, url in urls.items()}
    lexicons = _lexicons(train, label_set, list(urls), arguments)

    metrics: dict[str, Any] = {}
    for language, reader in evaluation.items():
        scores = NerScores(label_set)
        lexicon = lexicons[language]
        samples = _sentences(reader, label_set)
        total = reader.manifest.samples
        for metadata in tqdm(samples, desc=f"score {language}", total=total, disable=None):
            tokens, tags = metadata["tokens"], metadata["tags"]
            scores.update(tags, lexicon.tag(tokens), metadata.get("subset"))
        metrics[language] = scores.result()

    if arguments.json != "-":
        print(_table(metrics, lexicons))
    if arguments.json:
        document = {
            "baseline": "lexicon",
            "label_set": label_set.name,
            "train": arguments.train,
            "evaluate": urls,
            "per_language": arguments.per_language,
            "lower_case": arguments.lower_case,
            "entries": {language: len(lexicons[language]) for language in metrics},
            "metrics": metrics,
        }
        text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
        if arguments.json == "-":
            sys.stdout.write(text)
        else:
            storage.write_atomically(arguments.json, text.encode())
    return EXIT_DONE


def _by_language(items: list[str]) -> dict[str, str]:
    """``["en=URL", ...]`` as language -> URL."""
    urls: dict[str, str] = {}
    problems = []
    for item in items:
        language, equals, url = item.partition("=")
        if not (language and equals and url):
            remedy = "Write the language before the source: en=ner/en/dev"
            problems.append(Problem("not LANG=URL", "--evaluate", item, remedy))
        elif language in urls:
            remedy = "Give each language one source"
            problems.append(Problem("the language is given twice", "--evaluate", language, remedy))
        urls[language] = url
    if problems:
        raise ConfigError(problems)
    return urls


def _lexicons(
    train: list[ShardReader],
    label_set: LabelSet,
    languages: list[str],
    arguments: argparse.Namespace,
) -> dict[str, Lexicon]:
    """The lexicon that each language is tagged with."""
    from tqdm import tqdm

    from headrace.tasks.lexicon import Lexicon

    sentences: dict[str, list[tuple[list[str], list[str]]]] = {}
    total = sum(reader.manifest.samples for reader in train)
    with tqdm(desc="collect entities", total=total, disable=None) as progress:
        for reader in train:
            for metadata in _sentences(reader, label_set):
                group = str(metadata.get("language")) if arguments.per_language else ""
                pair = (metadata["tokens"], metadata["tags"])
                sentences.setdefault(group, []).append(pair)
                progress.update()
    if not arguments.per_language:
        shared = Lexicon.from_sentences(sentences.get("", []), lower_case=arguments.lower_case)
        return dict.fromkeys(languages, shared)
    missing = [language for language in languages if language not in sentences]
    if missing:
        raise ConfigError(
            Problem(
                "no training sentences of a language that is to be scored",
                "--train",
                ", ".join(missing),
                f"Add a source of it; the sources hold {', '.join(sorted(sentences))}",
            )
        )
    return {
        language: Lexicon.from_sentences(sentences[language], lower_case=arguments.lower_case)
        for language in languages
    }


def _sentences(reader: ShardReader, label_set: LabelSet) -> Iterator[dict[str, Any]]:
    """The metadata of every sample, checked to have tokens and known tags.

    Raises ``LabelError`` after the last sample, with the first place of each problem.
    """
    problems: dict[str, Problem] = {}
    for sample in reader:
        metadata = sample.metadata
        where = f"{reader.url}: sample {sample.key}"
        tokens, tags = metadata.get("tokens"), metadata.get("tags")
        if not (_are_words(tokens) and _are_words(tags) and len(tokens) == len(tags)):
            remedy = "Build the source from annotated text"
            problem = Problem("the sample has no tokens with tags", where, remedy=remedy)
            problems.setdefault("", problem)
            continue
        unknown = [tag for tag in tags if tag not in label_set.tag_ids]
        for tag in unknown:
            problems.setdefault(tag, label_set.unknown_tag(tag, where))
        if not unknown:
            yield metadata
    if problems:
        raise LabelError(list(problems.values()))


def _are_words(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _table(metrics: dict[str, Any], lexicons: dict[str, Lexicon]) -> str:
    """One row a language, scores in per cent."""
    header = f"{'language':<10}{'entries':>9}{'sentences':>11}"
    header += f"{'fine F1':>9}{'coarse F1':>11}{'micro F1':>10}{'precision':>11}{'recall':>8}"
    rows = [header]
    for language, scores in metrics.items():
        row = f"{language:<10}{len(lexicons[language]):>9}{scores['sentences']:>11}"
        for key, width in (
            ("fine_macro_f1", 9),
            ("coarse_macro_f1", 11),
            ("micro_f1", 10),
            ("precision", 11),
            ("recall", 8),
        ):
            row += f"{100 * scores[key]:>{width}.2f}"
        rows.append(row)
    rows.append("Fine and coarse F1 are means over types; all scores are per cent.")
    return "\n".join(rows)
