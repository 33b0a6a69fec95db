"""``headrace sample``: write the built-in sample corpus as CoNLL files."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, CorpusError, Problem

HELP = "write a made-up multilingual named-entity corpus to try things out with"
EXAMPLE = "headrace sample --output demo/conll --languages en,hi,zh --train 2000 --validation 400"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--output", required=True, metavar="DIR", help="folder or URL to write to")
    parser.add_argument(
        "--languages",
        metavar="LANG,LANG",
        help="languages to write (default: all twelve)",
    )
    parser.add_argument(
        "--train",
        type=int,
        default=2000,
        metavar="N",
        help="training sentences a language (default: 2000)",
    )
    parser.add_argument(
        "--validation",
        type=int,
        default=400,
        metavar="N",
        help="validation sentences a language (default: 400)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=17,
        metavar="N",
        help="another seed, other sentences (default: 17)",
    )
    parser.add_argument(
        "--noisy-share",
        type=float,
        default=0.3,
        metavar="SHARE",
        help="share of the validation sentences with typing errors (default: 0.3)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write ``<lang>_train.conll`` and ``<lang>_dev.conll`` for every language."""
    from headrace.corpus.sample_corpus import FILE_NAMES, LANGUAGES, generate, write_conll
    from headrace.shards import storage

    names = LANGUAGES if arguments.languages is None else arguments.languages.split(",")
    languages = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    _check(arguments, languages)
    sizes = {"train": arguments.train, "validation": arguments.validation}
    files = [(language, split) for language in languages for split in sizes]
    for language, split in tqdm(files, desc="sample", unit="file", disable=None):
        sentences = generate(
            language,
            split,
            sizes[split],
            arguments.seed,
            noisy_share=0.0 if split == "train" else arguments.noisy_share,
        )
        name = FILE_NAMES[split].format(language=language)
        write_conll(storage.join(arguments.output, name), sentences)
    print(
        f"{arguments.output}: {counted(len(languages), 'language')}, each "
        f"{counted(arguments.train, 'training sentence')} and "
        f"{counted(arguments.validation, 'validation sentence')}"
    )
    return EXIT_DONE


def _check(arguments: argparse.Namespace, languages: list[str]) -> None:
    """Raise one error with every wrong option, before anything is written."""
    from headrace.corpus.sample_corpus import LANGUAGES
    from headrace.shards import storage

    known = f"Use some of {','.join(LANGUAGES)}."
    problems = [
        Problem("there is no sample corpus in this language", "--languages", language, known)
        for language in languages
        if language not in LANGUAGES
    ]
    if storage.is_empty(arguments.output):
        problems.append(Problem("the path is empty", "--output", remedy="Name a folder."))
    if not languages:
        problems.append(Problem("no language is named", "--languages", remedy=known))
    for option, size in (("--train", arguments.train), ("--validation", arguments.validation)):
        if size < 1:
            problems.append(
                Problem("there must be at least one sentence", option, str(size), "Give a count.")
            )
    if not 0.0 <= arguments.noisy_share <= 1.0:
        share = str(arguments.noisy_share)
        problems.append(
            Problem("not a share", "--noisy-share", share, "Give a number from 0 to 1.")
        )
    if problems:
        raise CorpusError(problems)
