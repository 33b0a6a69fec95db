"""Doc2Vec: vectors that are trained on the very samples that are to be chosen from.

The second embedding of Downie, after Le and Mikolov, "Distributed Representations of Sentences and
Documents", by gensim (extra ``doc2vec``).  One model is trained on the samples of all sources; the
vector of a sample is the one that was trained for it.  Training runs in one thread, from a seed and
over the sources in the order of their fingerprints, so the same samples get the same vectors in any
process.
"""

from __future__ import annotations

import importlib.metadata
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.encoding.store import writing_problems
from headrace.errors import Problem, SelectionError, ShardError
from headrace.selection.vector_cache import (
    EmbeddedSource,
    VectorCache,
    joint_fingerprint,
    texts_of,
)
from headrace.selection.words import words_of
from headrace.shards.reader import ShardReader

if TYPE_CHECKING:
    from gensim.models.doc2vec import Doc2Vec

_VERSION = 1
_MAX_WORDS = 10_000
"""Words of a text that gensim reads."""
_NAMED = 10
"""Samples that a problem names."""


@dataclass(frozen=True)
class Doc2VecSettings:
    """How a Doc2Vec model is trained; the names are gensim's."""

    vector_size: int = 100
    """Length of a vector."""
    epochs: int = 40
    """Times that all samples are read."""
    min_count: int = 1
    """Rarer words are left out; every sample has to keep one."""
    window: int = 5
    """Words on each side that a word is predicted from."""
    dm: bool = True
    """Distributed memory (PV-DM); distributed bag of words (PV-DBOW) otherwise."""
    seed: int = 0
    """Of the first vectors, and of what is drawn while training."""

    def problems(self) -> list[Problem]:
        """What is out of range, and a package that is missing."""
        problems = [
            Problem("out of range", name, str(value), f"Give {least:,} or more")
            for name, value, least in (
                ("vector_size", self.vector_size, 1),
                ("epochs", self.epochs, 1),
                ("min_count", self.min_count, 1),
                ("window", self.window, 1),
                ("seed", self.seed, 0),
            )
            if value < least
        ]
        if self.seed >= 2**31:
            problems.append(Problem("out of range", "seed", str(self.seed), f"Below {2**31:,}"))
        if _gensim_version() is None:
            problems.append(
                Problem(
                    "Doc2Vec needs the package gensim",
                    "embedding",
                    "doc2vec",
                    'Install the extra doc2vec: pip install "headrace[doc2vec]"',
                )
            )
        return problems


def source_fingerprints(
    readers: Mapping[str, ShardReader], settings: Doc2VecSettings
) -> dict[str, str]:
    """32 hexadecimal digits by name of a source: what its vectors, trained with all, depend on."""
    manifests = [readers[name].manifest.fingerprint for name in _order(readers)]
    model = [_VERSION, _gensim_version(), asdict(settings), manifests]
    return {name: joint_fingerprint([*model, place]) for place, name in enumerate(_order(readers))}


def embed_sources(
    readers: Mapping[str, ShardReader],
    settings: Doc2VecSettings,
    cache_dir: Path | str,
    *,
    show: bool = True,
) -> dict[str, EmbeddedSource]:
    """Open the vectors of sources, and train a model on all of them if any are missing.

    Of several processes that ask for the same vectors one trains, and the others wait for it.  A
    training that is killed starts over.

    Args:
        readers: the sources by name; the field ``txt`` of their samples is read.
        settings: of the model.
        cache_dir: local folder of the cache.
        show: whether there is a progress bar (on a terminal).

    Raises:
        SelectionError: with settings that are out of range, if gensim is not installed, or naming
            samples without words.
        ShardError: with all shards that are damaged, and all texts that are not UTF-8.
        ConfigError: if a sample has no text.
        EncodingError: if the cache cannot be written.
    """
    problems = settings.problems()
    if problems:
        raise SelectionError(problems)
    fingerprints = source_fingerprints(readers, settings)
    root = Path(cache_dir).expanduser()
    with writing_problems(root):
        caches = {
            name: VectorCache(reader, settings.vector_size, root / fingerprints[name])
            for name, reader in readers.items()
        }
        names = _order(readers)
        if names:
            # held by the process that trains
            with FileLock(caches[names[0]].folder / ".training.lock"):
                for cache in caches.values():
                    cache.allocate()
                if any(cache.missing() for cache in caches.values()):
                    _train([(name, readers[name], caches[name]) for name in names], settings, show)
        return {name: caches[name].opened(fingerprints[name]) for name in readers}


def _order(readers: Mapping[str, ShardReader]) -> list[str]:
    """The order of training, which does not depend on that of the sources."""
    return sorted(readers, key=lambda name: (readers[name].manifest.fingerprint, name))


def _gensim_version() -> str | None:
    try:
        return importlib.metadata.version("gensim")
    except importlib.metadata.PackageNotFoundError:
        return None


_Source = tuple[str, ShardReader, VectorCache]


def _train(sources: list[_Source], settings: Doc2VecSettings, show: bool) -> None:
    """Train on all sources and store the vectors of all their samples."""
    # beside the vectors, as it may be large; one text a line is what gensim reads without Python
    file = sources[0][2].folder / ".words"
    try:
        lengths = _written(sources, file, show)
        if not len(lengths):
            return
        model = _trained(file, sources, settings, show)
    finally:
        file.unlink(missing_ok=True)
    start = 0
    for _, reader, cache in sources:
        for number, entry in enumerate(reader.manifest.shards):
            rows = slice(start, start + entry.samples)
            cache.store(number, model.dv.vectors[rows].astype(np.float16), lengths[rows])
            start += entry.samples


def _written(sources: list[_Source], file: Path, show: bool) -> NDArray[np.int32]:
    """Write the words of each sample as a line of a file; the number of words of each."""
    problems: list[Problem] = []
    lengths: list[int] = []
    total = sum(entry.samples for _, reader, _ in sources for entry in reader.manifest.shards)
    with (
        file.open("w", encoding="utf-8", newline="\n") as stream,
        _bar("reading words", total, " samples", show) as progress,
    ):
        for _, reader, _ in sources:
            for number in range(len(reader.manifest.shards)):
                try:
                    texts = texts_of(reader, number)
                except ShardError as error:
                    problems += error.problems
                    continue
                for text in texts:
                    words = words_of(text)[:_MAX_WORDS]
                    lengths.append(len(words))
                    stream.write(" ".join(words) + "\n")
                progress.update(len(texts))
    if problems:
        raise ShardError(problems)
    return np.array(lengths, np.int32)


def _trained(file: Path, sources: list[_Source], settings: Doc2VecSettings, show: bool) -> Doc2Vec:
    from gensim.models.callbacks import CallbackAny2Vec
    from gensim.models.doc2vec import Doc2Vec

    model = Doc2Vec(
        vector_size=settings.vector_size,
        min_count=settings.min_count,
        window=settings.window,
        dm=int(settings.dm),
        seed=settings.seed,
        workers=1,  # more would add up in an order of their own
        hashfxn=_stable_hash,
    )
    model.build_vocab(corpus_file=str(file))
    _refuse_wordless(file, sources, model.wv.key_to_index)
    with _bar("training Doc2Vec", settings.epochs, " epochs", show) as progress:

        class AfterEpoch(CallbackAny2Vec):  # type: ignore[misc]  # gensim has no types
            def on_epoch_end(self, model: Any) -> None:
                progress.update()

        model.train(
            corpus_file=str(file),
            total_examples=model.corpus_count,
            total_words=model.corpus_total_words,
            epochs=settings.epochs,
            callbacks=[AfterEpoch()],
        )
    return model


def _stable_hash(word: str) -> int:
    """In place of ``hash``, which differs between processes."""
    return zlib.crc32(word.encode("utf-8"))


def _refuse_wordless(file: Path, sources: list[_Source], vocabulary: Mapping[str, int]) -> None:
    """Samples none of whose words are in the model would keep the vector they started with.

    Raises:
        SelectionError: naming them.
    """
    with file.open(encoding="utf-8", newline="\n") as stream:
        wordless = [
            row
            for row, line in enumerate(stream)
            if not any(word in vocabulary for word in line.split())
        ]
    if wordless:
        named = ", ".join(_name_of(row, sources) for row in wordless[:_NAMED])
        more = f" and {len(wordless) - _NAMED:,} more" if len(wordless) > _NAMED else ""
        raise SelectionError(
            Problem(
                "samples without a word of the vocabulary get no vector",
                "sources",
                named + more,
                "Lower min_count, or leave these samples out",
            )
        )


def _name_of(row: int, sources: list[_Source]) -> str:
    for name, reader, _ in sources:
        for number, entry in enumerate(reader.manifest.shards):
            if row < entry.samples:
                return f"{name}/{reader.shard(number).keys[row]}"
            row -= entry.samples
    raise IndexError(row)


@contextmanager
def _bar(what: str, total: int, unit: str, show: bool) -> Iterator[tqdm[Any]]:
    with tqdm(desc=what, total=total, unit=unit, disable=None if show else True) as progress:
        yield progress
