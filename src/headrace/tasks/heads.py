"""The heads of sequence classification: which outputs of the network answer for which source.

All heads are side by side in one classifier layer, so that a model that was trained on several
tasks is one Hugging Face model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headrace.config.task_sections import DISCOVER, SCORE, SequenceClassificationConfig
from headrace.errors import LabelError, Problem

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

ONLY = "all"
"""Name of the head where all sources share one."""


@dataclass(frozen=True)
class Head:
    """Labels, or a score, and the outputs that stand for them."""

    name: str
    sources: tuple[str, ...] | None
    """Names of the sources that it answers for; None: all there are."""
    labels: tuple[str, ...] | None
    """In the order of the outputs; None: one output, a score."""
    start: int = 0
    """The first of its outputs."""

    @property
    def size(self) -> int:
        """How many outputs it has."""
        return 1 if self.labels is None else len(self.labels)

    @property
    def stop(self) -> int:
        """The output behind its last one."""
        return self.start + self.size

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Label -> its position in the head."""
        return {label: number for number, label in enumerate(self.labels or ())}

    @property
    def described(self) -> str:
        """What it answers with, for people."""
        return "a score" if self.labels is None else f"{self.size} labels"


class Heads:
    """All heads of a network, in the order of their outputs."""

    def __init__(self, heads: Iterable[Head], *, chosen: str | None = None) -> None:
        """Place heads one behind the other, whatever their ``start`` was.

        The head with the name ``chosen`` is that of all sources, whatever they are called.
        """
        placed: list[Head] = []
        for head in heads:
            start = placed[-1].stop if placed else 0
            placed.append(Head(head.name, head.sources, head.labels, start))
        self.all: tuple[Head, ...] = tuple(placed)
        by_name = {head.name: head for head in placed}
        self.of_all = by_name[chosen] if chosen is not None else None
        if self.of_all is None and (len(placed) == 1 and placed[0].sources is None):
            self.of_all = placed[0]
        self._of_source = {source: head for head in placed for source in head.sources or ()}

    @property
    def size(self) -> int:
        """Outputs of the network."""
        return self.all[-1].stop

    @property
    def names_of_outputs(self) -> list[str]:
        """Names of all outputs, no two the same.

        With one head those of its labels; with several ``HEAD:LABEL``.  A score has the name of
        its head.
        """
        alone = len(self.all) == 1
        return [
            label if alone else f"{head.name}:{label}" if head.labels else head.name
            for head in self.all
            for label in head.labels or (head.name,)
        ]

    def of(self, source: str) -> Head:
        """Return the head of a source; ``KeyError`` if it has none."""
        return self._of_source[source] if self.of_all is None else self.of_all

    def have(self, source: str) -> bool:
        """Whether a source has a head."""
        return self.of_all is not None or source in self._of_source

    def choosing(self, name: str) -> Heads:
        """Return the same heads, of which the named one answers for all sources."""
        return Heads(self.all, chosen=name)

    def facts(self) -> list[dict[str, Any]]:
        """Return the heads as JSON-able objects, for :meth:`from_facts`."""
        return [
            {
                "name": head.name,
                "sources": None if head.sources is None else list(head.sources),
                "labels": None if head.labels is None else list(head.labels),
            }
            for head in self.all
        ]

    @classmethod
    def from_facts(cls, facts: Sequence[Mapping[str, Any]]) -> Heads:
        """Return the heads that :meth:`facts` describes."""

        def names(value: Any) -> tuple[str, ...] | None:
            return None if value is None else tuple(map(str, value))

        return cls(
            Head(str(fact["name"]), names(fact["sources"]), names(fact["labels"])) for fact in facts
        )


def heads_of_config(
    config: SequenceClassificationConfig, train: Mapping[str, ShardReader] | None
) -> Heads | None:
    """Return the heads of a run.

    Args:
        config: section ``task`` of a run config.
        train: the training sources by name, for labels that are to be found there; None if they
            cannot all be read, and then heads with such labels are None.

    Raises:
        LabelError: with the problems of all heads whose labels cannot be found.
    """
    wanted: list[tuple[str, tuple[str, ...] | None, str | list[str] | None]]
    if config.heads is None:
        wanted = [(ONLY, None, config.labels)]
    else:
        wanted = [
            (name, tuple(head.sources), head.labels or config.labels)
            for name, head in config.heads.items()
        ]
    if train is None and any(labels in (None, DISCOVER) for _, _, labels in wanted):
        return None
    problems: list[Problem] = []
    heads = []
    for name, sources, labels in wanted:
        found: tuple[str, ...] | None
        if isinstance(labels, list):
            found = tuple(labels)
        elif labels == SCORE:
            found = None
        else:
            readers = [
                reader
                for source, reader in (train or {}).items()
                if sources is None or source in sources
            ]
            found = _discovered(readers, name, problems)
        heads.append(Head(name, sources, found))
    if problems:
        raise LabelError(problems)
    return Heads(heads)


def _discovered(
    readers: Iterable[ShardReader], name: str, problems: list[Problem]
) -> tuple[str, ...]:
    """The labels of some sources, sorted.

    They come from ``labels`` (label -> count) in the metadata of a manifest, as ``headrace build``
    writes it, or from a pass over the samples of a source without it.
    """
    labels: set[str] = set()
    urls = []
    for reader in readers:
        urls.append(reader.url)
        counts = reader.manifest.metadata.get("labels")
        if isinstance(counts, dict) and counts:
            labels.update(counts)
            continue
        for sample in reader:
            label = sample.metadata.get("label")
            if isinstance(label, str):
                labels.add(label)
    if len(labels) < 2:
        problems.append(
            Problem(
                "fewer than two different labels in the training data",
                f"head {name}: {', '.join(urls)}",
                ", ".join(sorted(labels)) or "none",
                'Check the sources; of samples with a number set labels to "score"',
            )
        )
    return tuple(sorted(labels))
