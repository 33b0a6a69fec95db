"""The vectors that an encoder gives the samples of a source: made once, shard by shard.

Any number of processes may fill the cache at once: each shard is made by one, and one that is
killed loses the shard in hand and nothing else.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from filelock import Timeout
from tqdm import tqdm

from headrace.encoding.store import writing_problems
from headrace.errors import Problem, ShardError
from headrace.selection.encoder import Encoder
from headrace.selection.vector_cache import (
    EmbeddedSource,
    VectorCache,
    joint_fingerprint,
    texts_of,
)
from headrace.shards.reader import ShardReader


def source_fingerprint(reader: ShardReader, encoder: Encoder) -> str:
    """32 hexadecimal digits: equal if and only if the vectors of the source are equal."""
    return joint_fingerprint([encoder.fingerprint, reader.manifest.fingerprint])


def embed_source(
    reader: ShardReader, encoder: Encoder, cache_dir: Path | str, *, name: str, show: bool = True
) -> EmbeddedSource:
    """Open the vectors of a source, and make those that are missing.

    Rows whose bytes are not those that were written are made again, with a warning.

    Args:
        reader: the source.
        encoder: makes the vectors of the field ``txt``.
        cache_dir: local folder of the cache.
        name: of the source, for the progress bar.
        show: whether there is a progress bar (on a terminal).

    Raises:
        ShardError: with all shards that are damaged, and all texts that are not UTF-8.
        ConfigError: if a sample has no text.
        EncodingError: if the cache cannot be written.
    """
    fingerprint = source_fingerprint(reader, encoder)
    folder = Path(cache_dir).expanduser() / fingerprint
    with writing_problems(folder):
        cache = VectorCache(reader, encoder.dimensions, folder)
        cache.allocate()
        _make_all(reader, encoder, cache, name, show)
        return cache.opened(fingerprint)


def _make_all(
    reader: ShardReader, encoder: Encoder, cache: VectorCache, name: str, show: bool
) -> None:
    """Make the rows of every shard that has none; other processes may be at it too."""
    missing = deque(cache.missing())
    damaged: list[Problem] = []
    waited = 0
    with tqdm(
        total=sum(reader.manifest.shards[number].samples for number in missing),
        desc=f"embedding {name}",
        unit=" samples",
        disable=None if missing and show else True,
    ) as progress:
        while missing:
            number = missing.popleft()
            # shards that other processes are at come last; only then is there a wait
            try:
                with cache.lock(number).acquire(timeout=-1 if waited > len(missing) else 0):
                    if not cache.is_done(number):
                        _make(reader, encoder, cache, number, progress)
            except Timeout:
                missing.append(number)
                waited += 1
                continue
            except ShardError as error:
                damaged += error.problems
            waited = 0
    if damaged:
        raise ShardError(damaged)


def _make(
    reader: ShardReader, encoder: Encoder, cache: VectorCache, number: int, progress: tqdm[Any]
) -> None:
    vectors, lengths = encoder.embed(texts_of(reader, number), progress.update)
    cache.store(number, vectors, lengths)
