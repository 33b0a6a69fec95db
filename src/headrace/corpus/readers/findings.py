"""What a reader found wrong in one file, capped, and what it repaired."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from headrace.counts import counted
from headrace.errors import CorpusError, Problem
from headrace.shards.sample import key_of

if TYPE_CHECKING:
    from headrace.tasks.labels import LabelSet

MOST_PROBLEMS = 20
"""Problems of one file that are listed; the rest is counted."""
REPAIRED_BYTE_ORDER_MARK = "byte_order_marks"
REPAIRED_LINE_END = "windows_line_ends"
REPAIRED_TAG = "inside_tags_without_begin"


@dataclass(frozen=True)
class RepeatedId:
    """A sentence that repeats another one, id and all, as published corpora do."""

    identifier: str
    line: int
    first_line: int


class Findings:
    """Problems of one file, with line numbers, and the repairs made in it.

    Args:
        url: The file.
        repair: Whether readers may mend a byte order mark, Windows line ends and I- tags without
            B-, each of which is counted in ``repairs``.
        label_set: The tags that may be used, if they are known already.
    """

    def __init__(
        self, url: str, *, repair: bool = False, label_set: LabelSet | None = None
    ) -> None:
        self.url = url
        self.repair = repair
        self.repairs: Counter[str] = Counter()
        self.repeated: list[RepeatedId] = []
        self.total = 0
        self._problems: list[Problem] = []
        self._label_set = label_set
        self._unknown_types: set[str] = set()
        self._ids: dict[str, tuple[int, int, int]] = {}

    def add(
        self, line: int, what: str, value: str | None = None, remedy: str | None = None
    ) -> None:
        """Record a problem of line ``line``, counted from 1."""
        self._add(Problem(what, f"{self.url}:{line}", value, remedy))

    def check_label(self, tag: str, line: int) -> None:
        """Record a tag that is not in the label set, once for each type."""
        if self._label_set is None or tag in self._label_set.tag_ids:
            return
        if tag[2:] in self._unknown_types:
            return
        self._unknown_types.add(tag[2:])
        self._add(self._label_set.unknown_tag(tag, f"{self.url}:{line}"))

    def key_for(self, identifier: str, line: int, content: bytes) -> str:
        """A key for the sentence ``identifier``, unique in the file.

        A sentence that repeats an earlier one with the same id and the same content is kept (the
        published files of MultiCoNER II hold hundreds) under the key ``ID-2``, ``ID-3``; the same
        id with other content is a problem.
        """
        key = key_of(identifier)
        digest = xxhash.xxh3_64_intdigest(content)
        if identifier not in self._ids:
            self._ids[identifier] = (line, digest, 1)
            return key
        first_line, first_digest, count = self._ids[identifier]
        if digest != first_digest:
            self.add(
                line,
                f"the id is used for another sentence too, at line {first_line}",
                identifier,
                "Give each sentence an id of its own",
            )
        self._ids[identifier] = (first_line, first_digest, count + 1)
        self.repeated.append(RepeatedId(identifier, line, first_line))
        return key_of(f"{key}-{count + 1}")

    def _add(self, problem: Problem) -> None:
        self.total += 1
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(problem)

    @property
    def problems(self) -> list[Problem]:
        """The problems, at most ``MOST_PROBLEMS``, and then one that counts the rest."""
        rest = self.total - len(self._problems)
        if not rest:
            return list(self._problems)
        more = Problem(f"{counted(rest, 'more problem')} in this file", self.url)
        return [*self._problems, more]

    def raise_if_any(self) -> None:
        """Raise :class:`CorpusError` with the problems, if there are any."""
        if self.total:
            raise CorpusError(self.problems)
