"""``headrace tokenizer``: train a SentencePiece tokenizer from shards."""

from __future__ import annotations

import argparse

from headrace.commands.options import (
    add_shard_cache,
    named_as_options,
    shard_cache_of,
    sources_of,
)

HELP = "train a SentencePiece tokenizer from shards, with the languages balanced"
EXAMPLE = "headrace tokenizer data/en/train data/hi/train --output data/tokenizer"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder (URL) of shards, or of a corpus of several languages",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="local folder of the tokenizer"
    )
    parser.add_argument(
        "--vocab-size", type=int, default=8000, metavar="N", help="pieces (default: 8000)"
    )
    parser.add_argument(
        "--model-type", choices=("unigram", "bpe"), default="unigram", help="default: unigram"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.5,
        metavar="POWER",
        help="shares of languages are size ** POWER: 1 natural, 0 equal (default: 0.5)",
    )
    parser.add_argument(
        "--max-sentences",
        type=int,
        default=1_000_000,
        metavar="N",
        help="samples to draw at most, over all languages (default: 1000000)",
    )
    parser.add_argument(
        "--normalization",
        choices=("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"),
        default="nmt_nfkc",
        help="SentencePiece's rule; _cf also folds case (default: nmt_nfkc)",
    )
    parser.add_argument(
        "--character-coverage",
        type=float,
        default=0.9995,
        metavar="SHARE",
        help="share of characters with a piece; the rest is spelt in bytes (default: 0.9995)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the draw (default: 0)"
    )
    add_shard_cache(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train the tokenizer and say what came out."""
    from headrace.encoding.tokenizer import load_tokenizer, tokenizer_fingerprint, train_tokenizer
    from headrace.encoding.tokenizer_training import TokenizerSettings, check_settings
    from headrace.errors import EXIT_DONE, Problem, UserError
    from headrace.shards import storage
    from headrace.shards.reader import open_readers

    settings = TokenizerSettings(
        arguments.vocab_size,
        model_type=arguments.model_type,
        temperature=arguments.temperature,
        max_sentences=arguments.max_sentences,
        normalization=arguments.normalization,
        character_coverage=arguments.character_coverage,
        seed=arguments.seed,
    )
    problems: list[Problem] = []
    try:
        with named_as_options(vars(settings)):
            check_settings(settings)
    except UserError as error:
        problems += error.problems
    try:
        output = storage.local_folder(arguments.output, "--output")
    except UserError as error:
        problems += error.problems
    readers = list(
        open_readers(
            sources_of(arguments.sources), problems, shard_cache_of(arguments, problems)
        ).values()
    )
    if problems:
        raise UserError(problems)
    with named_as_options(vars(settings)):
        folder = train_tokenizer(readers, output, **vars(settings))
    tokenizer = load_tokenizer(folder)
    print(f"{folder}: {len(tokenizer)} pieces, fingerprint {tokenizer_fingerprint(tokenizer)}")
    return EXIT_DONE
