"""``headrace lexicon``: score the longest-match lexicon baseline on shards."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

from headrace.commands.options import urls_by_language
from headrace.errors import EXIT_DONE, ConfigError, LabelError, Problem, UserError

if TYPE_CHECKING:
    from headrace.shards import ShardReader
    from headrace.tasks.labels import LabelSet
    from headrace.tasks.lexicon import Lexicon

HELP = "score the longest-match lexicon baseline of named entity recognition"
EXAMPLE = (
    "headrace lexicon --train data/en/train data/hi/train "
    "--evaluate en=data/en/dev hi=data/hi/dev "
    "--labels multiconer_v2 --json baseline.json"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--train",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="sources to collect entities from",
    )
    parser.add_argument(
        "--evaluate",
        nargs="+",
        required=True,
        metavar="LANG=URL",
        help="sources to score, each with the language it is reported under",
    )
    parser.add_argument(
        "--labels",
        required=True,
        metavar="NAME",
        help="label set: a built-in name or the path of a .json file",
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

    from headrace.shards import storage
    from headrace.tasks.ner_metrics import NerScores

    label_set, train, evaluation = _opened(arguments)
    lexicons = _lexicons(train, evaluation, label_set, arguments)

    problems: list[Problem] = []
    metrics: dict[str, Any] = {}
    for language, reader in evaluation.items():
        scores = NerScores(label_set)
        lexicon = lexicons[language]
        samples = _sentences(reader, label_set)
        total = reader.manifest.samples
        try:
            for metadata in tqdm(samples, desc=f"score {language}", total=total, disable=None):
                tokens, tags = metadata["tokens"], metadata["tags"]
                scores.update(tags, lexicon.tag(tokens), metadata.get("subset"))
        except UserError as error:
            problems += error.problems
        else:
            metrics[language] = scores.result()
    if problems:
        raise UserError(problems)

    if arguments.json != "-":
        print(_table(metrics, lexicons))
    if arguments.json is not None:
        document = {
            "baseline": "lexicon",
            "label_set": label_set.name,
            "train": arguments.train,
            "evaluate": {language: reader.url for language, reader in evaluation.items()},
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


def _opened(
    arguments: argparse.Namespace,
) -> tuple[LabelSet, list[ShardReader], dict[str, ShardReader]]:
    """The label set, the training sources, and the sources to score by language.

    Raises one error with all problems of the options, the label set and the sources.
    """
    from headrace.shards import storage
    from headrace.shards.reader import open_readers
    from headrace.tasks.labels import load_label_set

    problems: list[Problem] = []
    urls = urls_by_language(arguments.evaluate, "--evaluate", problems)
    if arguments.json not in {None, "-"}:
        problems += storage.output_file_problems(arguments.json, "--json")
    label_set = None
    try:
        label_set = load_label_set(arguments.labels)
    except UserError as error:
        problems += error.problems
    readers = open_readers([*arguments.train, *urls.values()], problems)
    problems += [
        Problem(
            "the source holds multiple-choice questions",
            reader.url,
            remedy="The lexicon is a baseline of named entity recognition: give sources with tags",
        )
        for reader in readers.values()
        if "choices" in reader.manifest.metadata
    ]
    if problems or label_set is None:
        raise ConfigError(problems)
    train = [readers[url] for url in arguments.train]
    return label_set, train, {language: readers[url] for language, url in urls.items()}


def _lexicons(
    train: list[ShardReader],
    evaluation: dict[str, ShardReader],
    label_set: LabelSet,
    arguments: argparse.Namespace,
) -> dict[str, Lexicon]:
    """The lexicon that each language is tagged with.

    Raises ``UserError`` for the training sources; the sources to score are then read as well, so
    that the problems of all come together.
    """
    from tqdm import tqdm

    from headrace.tasks.lexicon import Lexicon

    languages = list(evaluation)
    problems: list[Problem] = []
    sentences: dict[str, list[tuple[list[str], list[str]]]] = {}
    total = sum(reader.manifest.samples for reader in train)
    with tqdm(desc="collect entities", total=total, disable=None) as progress:
        for reader in train:
            try:
                for metadata in _sentences(reader, label_set):
                    group = str(metadata.get("language")) if arguments.per_language else ""
                    pair = (metadata["tokens"], metadata["tags"])
                    sentences.setdefault(group, []).append(pair)
                    progress.update()
            except UserError as error:
                problems += error.problems
    if problems:
        for reader in evaluation.values():
            try:
                for _ in _sentences(reader, label_set):
                    pass
            except UserError as error:
                problems += error.problems
        raise UserError(list(dict.fromkeys(problems)))
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
