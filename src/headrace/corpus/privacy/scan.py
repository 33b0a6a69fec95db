"""Finding private information in a text, by the packs of its language."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from headrace.corpus.privacy.context import Surroundings, without_markers
from headrace.corpus.privacy.folding import Folded, fold
from headrace.corpus.privacy.pack import (
    UNIVERSAL,
    Detector,
    Pack,
    expression,
    find_pack,
    parts_of,
)
from headrace.corpus.privacy.reserved import IDENTIFIERS, is_reserved
from headrace.corpus.privacy.validators import validator_of

THRESHOLD = 0.5
"""What is less sure than this is no finding."""
SECONDS = 10.0
"""Processor time that one text may take, before its scan is given up as incomplete."""

_CLUSTER = re.compile(r"[0-9](?:[^0-9\n]{0,4}[0-9])*")
_AROUND_DIGITS = (24, 40)
"""How far around close digits a match may begin and end, in characters."""
_LONG_ENOUGH = 6
"""Characters of a value that is looked for in the rest of the text."""
_LOOKS = 16
"""Searches between two looks at the clock, which takes as long as a short search."""
_TOKEN = re.compile(r"\w+|.", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """Where private information stands, and of which type; never what it says."""

    type: str
    """Such as ``EMAIL``."""
    start: int
    """In code points of the original text."""
    end: int
    """Behind its last code point."""
    detector: str
    """``PACK.NAME`` of the detector."""
    validator: str | None
    """What it was checked with; None where its form says it all."""
    score: float
    """From 0.5, just likely, to 1."""


@dataclass(frozen=True)
class Gap:
    """Something that a scan could not look for."""

    language: str
    what: str

    def __str__(self) -> str:
        return f"{self.language}: {self.what}"


@dataclass(frozen=True)
class Scan:
    """The result for one text."""

    findings: tuple[Finding, ...]
    """In the order of the text; they do not overlap."""
    warnings: tuple[Gap, ...] = ()
    """Packs that are missing, for the card of the data set."""
    complete: bool = True
    """Whether the text was searched to its end; if not, it must not be used as it is."""

    def to_json(self) -> dict[str, Any]:
        """For a program; it never has a private value."""
        return {
            "findings": [asdict(finding) for finding in self.findings],
            "warnings": [asdict(warning) for warning in self.warnings],
            "complete": self.complete,
        }


class _Compiled:
    """A detector, ready to search."""

    def __init__(self, detector: Detector, pack: Pack, topics: dict[str, list[str]]) -> None:
        self.pattern = expression(detector.pattern, detector.ignore_case)
        self.group = "value" if "value" in self.pattern.groupindex else 0
        self.name = f"{pack.code}.{detector.name}"
        self.detector = detector
        self.validate = validator_of(detector.validator) if detector.validator else None
        context = detector.context
        self.surroundings = Surroundings(context, topics) if context else None


class Scanner:
    """The detectors of some packs, compiled.

    Args:
        packs: universal, countries', language's.
        regions: countries whose telephone numbers need no calling code, the likeliest first.
        warnings: what is missing, told with every scan.
        names: use the detectors of people's names as well.
        seconds: processor time that one text may take.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        regions: Sequence[str] = (),
        warnings: Sequence[Gap] = (),
        *,
        names: bool = False,
        seconds: float = SECONDS,
    ) -> None:
        self.regions = tuple(regions)
        self.warnings = tuple(warnings)
        self._seconds = seconds
        topics: dict[str, list[str]] = {}
        for pack in packs:
            for topic, words in pack.topics.items():
                topics.setdefault(topic, []).extend(words)
        self._detectors = [
            _Compiled(detector, pack, topics)
            for pack in packs
            for detector in pack.detectors
            if names or not detector.names
        ]

    def types(self) -> list[str]:
        """The types that can be found."""
        return sorted({compiled.detector.type for compiled in self._detectors})

    def scan(self, text: str) -> Scan:
        """Find what is private in a text."""
        deadline = time.thread_time() + self._seconds
        folded = fold(text)
        context = without_markers(folded.lower)
        places = _Places(folded)
        found: list[Finding] = []
        nobodys: list[tuple[int, int]] = []
        complete = True
        for compiled in self._detectors:
            windows = places.windows(compiled.detector)
            if not windows:
                continue
            try:
                for one in self._search(compiled, folded, context, windows, deadline):
                    if one.score:
                        found.append(one)
                    else:
                        nobodys.append((one.start, one.end))
            except TimeoutError:
                complete = False
        found = [
            one
            for one in found  # no part of what belongs to nobody is somebody's
            if not any(start <= one.start and one.end <= end for start, end in nobodys)
        ]
        in_original = []
        for one in merged([*found, *_repeated(found, folded)]):
            start, end = folded.original(one.start, one.end)
            in_original.append(replace(one, start=start, end=end))
        return Scan(tuple(in_original), self.warnings, complete)

    def _search(
        self,
        compiled: _Compiled,
        folded: Folded,
        context: str,
        windows: Sequence[tuple[int, int]],
        deadline: float,
    ) -> Iterator[Finding]:
        """What one detector finds, in the folded text; of score 0 where it is nobody's."""
        text = folded.text
        tried = 0
        for start, end in windows:
            position = start
            while True:
                if tried % _LOOKS == 0:
                    left = deadline - time.thread_time()
                    if left <= 0:
                        raise TimeoutError
                tried += 1
                match = compiled.pattern.search(text, position, end, timeout=left)
                if match is None:
                    break
                first, last = match.span(compiled.group)
                judged = self._judge(compiled, text, context, first, last)
                if judged is None:  # another match may begin inside this one
                    token = _TOKEN.match(text, match.start())
                    position = token.end() if token else match.start() + 1
                    continue
                score, length = judged
                last = first + length
                position = max(last, match.start() + 1)
                if score >= THRESHOLD or score == 0:
                    detector = compiled.detector
                    yield Finding(
                        detector.type, first, last, compiled.name, detector.validator, score
                    )

    def _judge(
        self, compiled: _Compiled, text: str, context: str, first: int, last: int
    ) -> tuple[float, int] | None:
        """Score and length of a match, or None if it is not what the detector looks for."""
        detector, length, score = compiled.detector, last - first, compiled.detector.score
        near = compiled.surroundings is not None and compiled.surroundings.surround(
            context, first, last
        )
        if not near and score < THRESHOLD:
            return None  # the cheap question first: most numbers end here
        value = text[first:last]
        if detector.type in IDENTIFIERS and is_reserved(value):
            written = _TOKEN.match(value)  # those that stand for others have no spaces
            return 0, written.end() if written else length
        is_nobodys = False
        if compiled.validate is not None:
            verdict = compiled.validate(value, self.regions)
            if verdict is None:
                return None
            length = verdict.length or length
            score = score if verdict.score is None else verdict.score
            is_nobodys = verdict.score == 0
        if near and not is_nobodys and detector.in_context is not None:
            score = max(score, detector.in_context)
        return score, length


class _Places:
    """Where in a text a detector could find something: cheap, before any expression is tried."""

    def __init__(self, folded: Folded) -> None:
        self._folded = folded
        self._clusters = [
            (match.start(), match.end(), sum(map(str.isdigit, match[0])))
            for match in _CLUSTER.finditer(folded.text)
            if match.end() - match.start() >= 4
        ]
        self._most = max((count for _, _, count in self._clusters), default=0)
        self._by_digits: dict[int, list[tuple[int, int]]] = {}

    def windows(self, detector: Detector) -> list[tuple[int, int]]:
        """Parts of the text, in order and apart from each other."""
        if detector.near is not None:
            return self._around(detector.near, detector.reach)
        digits = detector.digits or 1
        if digits > self._most:
            return []
        if digits not in self._by_digits:
            close = [(start, end) for start, end, count in self._clusters if count >= digits]
            self._by_digits[digits] = _joined(close, _AROUND_DIGITS, len(self._folded.text))
        return self._by_digits[digits]

    def _around(self, words: Iterable[str], reach: tuple[int, int]) -> list[tuple[int, int]]:
        lower, found = self._folded.lower, []
        for word in words:
            place = lower.find(word)
            while place >= 0:
                found.append((place, place + len(word)))
                place = lower.find(word, place + len(word))
        return _joined(sorted(found), reach, len(lower))


def _joined(
    places: Iterable[tuple[int, int]], reach: tuple[int, int], length: int
) -> list[tuple[int, int]]:
    windows: list[tuple[int, int]] = []
    for start, end in places:
        start, end = max(0, start - reach[0]), min(length, end + reach[1])
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((start, end))
    return windows


def _repeated(findings: Sequence[Finding], folded: Folded) -> Iterator[Finding]:
    """Other places of values that were found: what context says in one place holds in all."""
    values: dict[str, Finding] = {}
    for finding in findings:
        value = folded.text[finding.start : finding.end]
        if len(value) >= _LONG_ENOUGH and re.search("[0-9@]", value):
            values.setdefault(value, finding)
    for value, finding in values.items():
        start = folded.text.find(value)
        while start >= 0:
            end = start + len(value)
            if not (_is_word(folded.text, start - 1) or _is_word(folded.text, end)):
                yield replace(finding, start=start, end=end)
            start = folded.text.find(value, end)


def _is_word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and (text[place].isalnum() or text[place] == "_")


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings that do not overlap, in order.

    Those that overlap become one, so that no part of any is left: it has the type of the longest
    (of the surest among equally long ones, then of the first by name) and reaches over all.
    """
    groups: list[list[Finding]] = []
    end = -1
    for finding in sorted(findings, key=lambda one: (one.start, one.end)):
        if finding.start < end:
            groups[-1].append(finding)
        else:
            groups.append([finding])
        end = max(end, finding.end)
    return [_one_of(group) for group in groups]


def _one_of(group: list[Finding]) -> Finding:
    if len(group) == 1:
        return group[0]
    best = min(group, key=lambda one: (one.start - one.end, -one.score, one.type, one.detector))
    start, end = group[0].start, max(one.end for one in group)
    return Finding(best.type, start, end, best.detector, best.validator, best.score)


@lru_cache(maxsize=512)
def scanner_for(language: str, names: bool = False, packs: str | Path | None = None) -> Scanner:
    """The scanner of a language: universal pack, the language's, those of its countries.

    Args:
        language: BCP-47 tag; with a region, such as ``pt-BR``, that country comes first.
        names: look for people's names as well, where the language has rules for them.
        packs: folder of packs that take the place of those of the same name or come to them.

    A language without a pack is searched by the universal one alone, with a warning in every
    :class:`Scan`.

    Raises:
        CorpusError: for packs that cannot be used.
        MissingExtraError: without the packages of the extra ``corpus``.
    """
    code, region = parts_of(language)
    warnings = []
    found = [pack for pack in [find_pack(UNIVERSAL, UNIVERSAL, packs)] if pack is not None]
    pack = find_pack("language", code, packs)
    regions = [] if region is None else [region]
    if pack is None:
        what = "there is no pack for this language: only what looks the same everywhere is found"
        warnings.append(Gap(language, what))
    else:
        found.append(pack)
        regions += [country for country in pack.countries if country != region]
    for country in regions:
        of_country = find_pack("country", country, packs)
        if of_country is not None:
            found.append(of_country)
        elif country == region:
            what = f"there is no pack for {country}: its identifiers are not found"
            warnings.append(Gap(language, what))
    return Scanner(found, regions, warnings, names=names)


def find(text: str, language: str, *, names: bool = False, packs: str | Path | None = None) -> Scan:
    """Find what is private in a text; see :func:`scanner_for` for the arguments and errors."""
    return scanner_for(language, names, packs).scan(text)
