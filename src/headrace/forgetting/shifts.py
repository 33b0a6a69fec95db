"""Splits that shift the distribution of one task: by the length of a text, and by clusters.

Both are those of Kenneweg and others, *Intelligent Learning Rate Distribution to Reduce
Catastrophic Forgetting in Transformers*, section 4.2: training goes from one part to the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.corpus.build import finished_before
from headrace.corpus.split_rows import Rows, comparable
from headrace.corpus.split_rules import Division
from headrace.encoding.tokenizer import load_tokenizer, tokenizer_fingerprint
from headrace.errors import CorpusError, Problem, UserError
from headrace.forgetting import kmeans
from headrace.report.split_plots import ClusterMap
from headrace.selection.embed import embed_source
from headrace.selection.encoder import Encoder, load_encoder
from headrace.selection.indexes import load_faiss
from headrace.selection.words import words_of
from headrace.shards import storage
from headrace.shards.reader import ShardReader
from headrace.shards.writer import ShardWriter

if TYPE_CHECKING:
    from headrace.selection.vectors import Table

DEFAULT_LABEL = "label"
_NAMED = 10


@dataclass(frozen=True)
class ByLength:
    """Short texts, and long ones.

    A text as long as the boundary is short.  Texts of the same words have one length, that of the
    first of them in the source.
    """

    at: Literal["mean", "median"] | Fraction = "mean"
    """The mean length, as in the paper; the length that makes the parts most equal; or a length."""
    tokenizer: str | None = None
    """Folder of a tokenizer whose pieces are counted; None for words."""

    parts = 2
    names = ("short", "long")
    if_empty = "Choose another boundary, or split texts of more than one length"

    @cached_property
    def _tokenizer(self) -> Any:
        return None if self.tokenizer is None else load_tokenizer(self.tokenizer)

    def problems(self, samples: int | None) -> list[Problem]:
        """A tokenizer that cannot be loaded."""
        try:
            self._tokenizer  # noqa: B018 - it is loaded here
        except UserError as error:
            return list(error.problems)
        return []

    def settings(self) -> dict[str, Any]:
        """The boundary, and what is counted."""
        tokenizer = self._tokenizer
        return {
            "by": "length",
            "at": self.at if isinstance(self.at, str) else float(self.at),
            "tokenizer": None if tokenizer is None else tokenizer_fingerprint(tokenizer),
        }

    def divide(self, rows: Rows) -> Division:
        """Count, and cut at the boundary."""
        lengths = self._lengths(rows)[rows.first]
        boundary = self._boundary(lengths)
        parts = (lengths > math.floor(boundary)).astype(np.int32)
        counts = np.bincount(lengths)
        facts = {
            "unit": "words" if self.tokenizer is None else "pieces",
            "boundary": float(boundary),
            "mean_length": float(lengths.mean()),
            "median_length": float(np.median(lengths)),
            "longest": int(lengths.max()),
            "mean_length_by_part": {
                name: float(lengths[parts == number].mean()) if (parts == number).any() else None
                for number, name in enumerate(self.names)
            },
        }
        there = np.flatnonzero(counts)
        by_length = {str(length): int(counts[length]) for length in there.tolist()}
        return Division(parts, facts, {"lengths": by_length})

    def _lengths(self, rows: Rows) -> NDArray[np.int64]:
        lengths: list[int] = []
        for piece in rows.pieces("counting words" if self.tokenizer is None else "tokenizing"):
            texts = [sample.text for sample in piece]
            if self._tokenizer is None:
                lengths += [len(words_of(comparable(text))) for text in texts]
            else:
                encoded = self._tokenizer(texts, add_special_tokens=False, verbose=False)
                lengths += [len(ids) for ids in encoded["input_ids"]]
        return np.array(lengths, np.int64)

    def _boundary(self, lengths: NDArray[np.int64]) -> Fraction:
        if isinstance(self.at, Fraction):
            return self.at
        if self.at == "mean":
            return Fraction(int(lengths.sum()), len(lengths))
        short = np.cumsum(np.bincount(lengths))
        return Fraction(int(np.argmin(np.abs(2 * short - len(lengths)))))


@dataclass(frozen=True)
class ByClusters:
    """Clusters of the embeddings of the texts, the largest first.

    The embeddings are the unit means of the last hidden states of a model.  Texts that are the
    same but for case or white space go to the cluster of the first of them.
    """

    clusters: int
    model: str
    """Folder or hub name of a pretrained model."""
    max_length: int = 128
    """Tokens of a text that the model reads."""
    cache: str = ".headrace/embeddings"
    """Local folder of the embeddings."""
    label: str | None = None
    """Field of ``json`` that the clusters are compared with; by default ``label``, if it is in
    every sample."""

    if_empty = "Ask for fewer clusters, or split more samples"

    @property
    def parts(self) -> int:
        """How many there are."""
        return self.clusters

    @property
    def names(self) -> tuple[str, ...]:
        """``cluster-0``, the largest one, and so on."""
        return tuple(f"cluster-{number}" for number in range(self.clusters))

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self.model, pooling="mean", max_length=self.max_length)

    def problems(self, samples: int | None) -> list[Problem]:
        """Fewer than 2 clusters, more than samples, a model that cannot be loaded, no FAISS."""
        problems = []
        if self.clusters < 2:
            value = str(self.clusters)
            problems.append(Problem("out of range", "by", value, "Give 2 or more"))
        elif samples is not None and self.clusters > samples:
            what = f"more clusters than the {samples:,} samples"
            problems.append(Problem(what, "by", str(self.clusters), "Ask for fewer"))
        for check in (
            lambda: load_faiss(kmeans.PURPOSE),
            lambda: storage.local_folder(self.cache, "cache"),
            lambda: self._encoder,
        ):
            try:
                check()
            except UserError as error:
                problems += error.problems
        return problems

    def settings(self) -> dict[str, Any]:
        """The number of clusters, the model, and the field of the labels."""
        return {
            "by": "clusters",
            "clusters": self.clusters,
            "encoder": self._encoder.fingerprint,
            "max_length": self.max_length,
            "label": self.label,
        }

    def divide(self, rows: Rows) -> Division:
        """Embed what is not embedded yet, and cluster."""
        labels = self._labels(rows)  # first, as embedding takes long and this may be refused
        vectors = self._vectors(rows)
        _refuse_bad_vectors(vectors, rows)
        with tqdm(total=kmeans.STARTS, desc="clustering", unit=" starts", disable=None) as bar:
            found = kmeans.kmeans(vectors, self.clusters, rows.seed, bar.update)
        parts = found.numbers[rows.first]
        facts: dict[str, Any] = {"mean_squared_distance": round(found.error, 6)}
        measured = kmeans.silhouette(vectors, parts)
        if measured is not None:
            facts |= {"silhouette": round(measured[0], 4), "silhouette_samples": measured[1]}
        tables: dict[str, Any] = {}
        shown, places, variance = kmeans.map_of(vectors)
        names: tuple[str, ...] = ()
        if labels is not None:
            numbers, names = labels
            counts = kmeans.label_counts(parts, numbers, len(names))
            facts["purity"] = round(kmeans.purity(counts), 4)
            facts["inverse_purity"] = round(kmeans.purity(counts.T), 4)
            facts["largest_label"] = round(float(counts.sum(0).max() / counts.sum()), 4)
            tables["labels"] = dict(zip(names, counts.T.tolist(), strict=True))
        picture = ClusterMap(
            places,
            parts[shown],
            None if labels is None else labels[0][shown],
            names,
            variance,
        )
        return Division(parts, facts, tables, picture)

    def _labels(self, rows: Rows) -> tuple[NDArray[np.int64], tuple[str, ...]] | None:
        if self.label is not None:
            return rows.values(self.label, "label")
        try:
            return rows.values(DEFAULT_LABEL, "label")
        except CorpusError:
            return None

    def _vectors(self, rows: Rows) -> Table:
        if len(rows) == len(rows.reader):
            return self._embedded(rows.reader)
        with _source_of(rows, self.cache) as reader:
            return self._embedded(reader)

    def _embedded(self, reader: ShardReader) -> Table:
        name = storage.name_of(reader.url)
        return embed_source(reader, self._encoder, self.cache, name=name).vectors


@contextmanager
def _source_of(rows: Rows, cache: str) -> Iterator[ShardReader]:
    """A source of some samples of another one alone, kept beside the embeddings."""
    digest = xxhash.xxh3_128(rows.reader.manifest.fingerprint.encode())
    digest.update(rows.numbers.data)
    fingerprint = digest.hexdigest()
    url = str(Path(cache).expanduser() / f"some-{fingerprint}")
    if finished_before(url, fingerprint) is None:
        with ShardWriter(
            url, fingerprint=fingerprint, parent=rows.reader.manifest.fingerprint
        ) as writer:
            for piece in rows.pieces("copying"):
                for sample in piece:
                    writer.write(sample)
            writer.metadata["build"] = fingerprint
    with ShardReader(url) as reader:
        yield reader


def _refuse_bad_vectors(vectors: Table, rows: Rows) -> None:
    """Raise if an embedding has no direction: not a number, or zero."""
    bad: list[int] = []
    for low in range(0, len(vectors), 4096):
        block = np.asarray(vectors[low : low + 4096], np.float32)
        norms = (block**2).sum(1)
        bad += (low + np.flatnonzero(~np.isfinite(norms) | (norms == 0))).tolist()
    if bad:
        keys = rows.keys
        named = ", ".join(keys[row] for row in bad[:_NAMED])
        more = f" and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        what = "the embeddings of samples are not finite, or zero"
        raise CorpusError(Problem(what, "model", named + more, "Use another model"))
