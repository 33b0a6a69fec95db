"""Does every pack find what its own examples say, and nothing else?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from headrace.corpus.privacy.pack import UNIVERSAL, Pack, all_packs, find_pack
from headrace.corpus.privacy.scan import Scanner, scanner_for

_MARK = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)


@dataclass(frozen=True)
class Failure:
    """An example that comes out otherwise."""

    pack: str
    detector: str
    """Empty for an example of the pack as a whole."""
    example: str
    """As it stands in the pack; examples are not private."""
    found: str
    """The same with what was found between brackets."""

    def __str__(self) -> str:
        where = f"{self.pack}.{self.detector}" if self.detector else self.pack
        return f"{where}: {self.example!r} gives {self.found!r}"


@dataclass(frozen=True)
class Checked:
    """What the check of one pack says."""

    pack: Pack
    examples: int
    failures: tuple[Failure, ...]


def check_packs(packs: str | Path | None = None) -> list[Checked]:
    """Run the examples of every pack.

    Those of a language run with the packs of its countries, those of a country with the
    universal one, all with the rules for names.

    Args:
        packs: a folder whose packs come to the built-in ones.

    Raises:
        CorpusError: for packs that cannot be used.
    """
    return [_check(pack, packs) for pack in all_packs(packs)]


def _check(pack: Pack, packs: str | Path | None) -> Checked:
    if pack.kind == "language":
        scanner = scanner_for(pack.code, True, packs)
    else:
        universal = find_pack(UNIVERSAL, UNIVERSAL, packs)
        both = [universal, pack] if universal and pack.kind == "country" else [pack]
        regions = [pack.code] if pack.kind == "country" else []
        scanner = Scanner(both, regions, names=True)
    examples = [
        (detector.name, detector.type, example)
        for detector in pack.detectors
        for example in (*detector.match, *detector.no_match)
    ]
    for by_type in (pack.match, pack.no_match):
        examples += [("", type_, example) for type_, texts in by_type.items() for example in texts]
    failures = tuple(
        Failure(pack.code, name, example, found)
        for name, type_, example in examples
        if (found := _marked(example, type_, scanner)) != example
    )
    return Checked(pack, len(examples), failures)


def _marked(example: str, type_: str, scanner: Scanner) -> str:
    text = _MARK.sub(r"\1", example)
    pieces, end = [], 0
    for finding in scanner.scan(text).findings:
        if finding.type == type_:
            pieces += [text[end : finding.start], "[[", text[finding.start : finding.end], "]]"]
            end = finding.end
    return "".join([*pieces, text[end:]])
