"""What commands share: problems under the names of options, common options, counts in words."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.counts import counted
from headrace.errors import Problem, ShardError, UserError

if TYPE_CHECKING:
    from headrace.shards.cache import ShardCache

__all__ = [
    "add_samples_per_shard",
    "add_shard_cache",
    "counted",
    "named_as_options",
    "shard_cache_of",
    "sources_of",
    "urls_by_language",
]

_SHARD_CACHE_LIMIT = "50 GB"


@contextmanager
def named_as_options(settings: Iterable[str]) -> Iterator[None]:
    """Give the problems of settings the names that these have on the command line.

    ``max_length`` becomes ``--max-length``.
    """
    names = {name: "--" + name.replace("_", "-") for name in settings}
    try:
        yield
    except UserError as error:
        if not any(problem.where in names for problem in error.problems):
            raise
        raise error.renamed(
            lambda problem: replace(problem, where=names.get(problem.where, problem.where))
        ) from error


def add_samples_per_shard(parser: argparse._ActionsContainer) -> None:
    """Add the option of how many samples a shard has."""
    parser.add_argument(
        "--samples-per-shard",
        type=int,
        default=10_000,
        metavar="N",
        help="samples in every shard but the last (default: 10000)",
    )


def add_shard_cache(parser: argparse.ArgumentParser) -> None:
    """Add the options of the cache for remote shards."""
    parser.add_argument(
        "--shard-cache",
        metavar="DIR",
        help="keep copies of remote shards in this local folder (default: read them in blocks)",
    )
    parser.add_argument(
        "--shard-cache-limit",
        metavar="SIZE",
        help="size of that folder, beyond which shards that were used longest ago go "
        f"(default: {_SHARD_CACHE_LIMIT})",
    )


def shard_cache_of(arguments: argparse.Namespace, problems: list[Problem]) -> ShardCache | None:
    """The cache that the options ask for; what is wrong with them goes to ``problems``."""
    from headrace.config.sizes import bytes_of
    from headrace.shards.cache import ShardCache

    text = arguments.shard_cache_limit
    if arguments.shard_cache is None:
        if text is not None:
            what, remedy = "it would have no effect", "Give --shard-cache as well, or leave it out"
            problems.append(Problem(what, "--shard-cache-limit", text, remedy))
        return None
    try:
        limit = bytes_of(_SHARD_CACHE_LIMIT if text is None else text)
    except ValueError as error:
        problems.append(Problem(str(error), "--shard-cache-limit", text, "Write it as 50 GB"))
        return None
    try:
        return ShardCache(arguments.shard_cache, limit_bytes=limit)
    except UserError as error:
        problems += [replace(one, where="--shard-cache") for one in error.problems]
        return None


def sources_of(urls: Iterable[str]) -> list[str]:
    """The same URLs, but for the folder of a corpus those of its languages.

    Raises:
        ShardError: if ``corpus.json`` of a corpus cannot be read.
    """
    from headrace.shards import storage

    found: list[str] = []
    for url in urls:
        record = storage.join(url, "corpus.json")
        if not storage.can_list(url) or not storage.exists(record):
            found.append(url)
            continue
        try:
            languages = json.loads(storage.read_bytes(record))["languages"]
            found += [storage.join(url, languages[name]["folder"]) for name in sorted(languages)]
        except (ValueError, TypeError, KeyError) as error:
            remedy = "Build the corpus again"
            raise ShardError(Problem("the file is damaged", record, remedy=remedy)) from error
    return found


def urls_by_language(words: Iterable[str], option: str, problems: list[Problem]) -> dict[str, str]:
    """``["en=URL", ...]`` as language -> URL; what is wrong with others goes to ``problems``."""
    urls: dict[str, str] = {}
    for word in words:
        language, equals, url = word.partition("=")
        if not (language and equals and url):
            remedy = "Write the language before the source: en=data/en/dev"
            problems.append(Problem("not LANG=URL", option, word, remedy))
        elif language in urls:
            remedy = "Give each language one source"
            problems.append(Problem("the language is given twice", option, language, remedy))
        else:
            urls[language] = url
    return urls
