"""The data of the benchmark ``stream``: plain WebDataset tars, the same bytes for everybody."""

from __future__ import annotations

import io
import itertools
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from headrace.corpus.sample_corpus import Sentence, generate

FIELD = "txt"
"""The only field of a sample."""
LANGUAGES = ("en", "hi", "zh", "de", "fa")
"""Languages of the sample corpus that the text is made of."""
_SENTENCES = 2000
"""Sentences of each language; documents are made of them over and over, in another order."""
_SMALLEST = 0.6
"""The shortest document has this share of the bytes of the longest."""


@dataclass(frozen=True)
class DataSet:
    """A folder of tars with the samples that every contestant must serve."""

    tars: Path
    samples: int
    payload_bytes: int
    """Of all samples together, without the tar's headers and padding."""
    digest: int
    """Sum of the hashes of all payloads modulo 2**64: the order has no part in it."""

    @property
    def files(self) -> list[Path]:
        """The tars in order."""
        return sorted(self.tars.glob("*.tar"))

    @property
    def tar_bytes(self) -> int:
        """Size of all tars."""
        return sum(path.stat().st_size for path in self.files)


def hash_of(payload: bytes) -> int:
    """64-bit hash of a payload, as the contestants compute it."""
    return int.from_bytes(blake2b(payload, digest_size=8).digest(), "little")


def make_data_set(folder: Path, *, samples: int, largest: int, shards: int, seed: int) -> DataSet:
    """Write ``samples`` documents of up to ``largest`` bytes of UTF-8 into ``shards`` tars.

    The tars are written with ``tarfile`` (ustar) and hold a single member a sample, without an
    index or a manifest: what somebody has who knows nothing of any of the contestants.
    """
    folder.mkdir(parents=True)
    texts = documents(largest, seed)
    payload_bytes, digest = 0, 0
    for shard in range(shards):
        with tarfile.open(
            folder / f"text-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT
        ) as tar:
            for number in range(shard * samples // shards, (shard + 1) * samples // shards):
                payload = next(texts).encode()
                member = tarfile.TarInfo(f"{number:08d}.{FIELD}")
                member.size = len(payload)
                tar.addfile(member, io.BytesIO(payload))
                payload_bytes += len(payload)
                digest += hash_of(payload)
    return DataSet(folder, samples, payload_bytes, digest % 2**64)


def documents(largest: int, seed: int) -> Iterator[str]:
    """Endless different documents of 60 to 100 % of ``largest`` bytes."""
    for number, sentences in enumerate(_runs_of_sentences(largest, seed)):
        text = " ".join([str(number), *(word for one in sentences for word in one.tokens)])
        yield text.encode()[:largest].decode(errors="ignore")


def tagged_documents(largest: int, seed: int) -> Iterator[tuple[list[str], list[str]]]:
    """Endless documents of about 60 to 100 % of ``largest`` bytes as words and their tags."""
    for sentences in _runs_of_sentences(largest, seed):
        words = [word for sentence in sentences for word in sentence.tokens]
        yield words, [tag for sentence in sentences for tag in sentence.tags]


def _runs_of_sentences(largest: int, seed: int) -> Iterator[list[Sentence]]:
    """Runs of sentences of one language, each run just longer than its document."""
    draw = random.Random(seed)
    corpora = [list(generate(language, "train", _SENTENCES, seed)) for language in LANGUAGES]
    for corpus in itertools.cycle(corpora):
        size = draw.uniform(_SMALLEST, 1.0) * largest
        run: list[Sentence] = []
        while size > 0:
            sentence = corpus[draw.randrange(len(corpus))]
            run.append(sentence)
            size -= sum(len(word.encode()) + 1 for word in sentence.tokens)
        yield run


def link_tars(source: Path, target: Path) -> Path:
    """A folder of its own with the same tars, for a contestant that writes files beside them."""
    target.mkdir(parents=True)
    for path in sorted(source.glob("*.tar")):
        (target / path.name).hardlink_to(path)
    return target
