"""Taking private information out of a text, and recording where it was and what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from headrace.corpus.privacy.key import Key
from headrace.corpus.privacy.scan import Finding, Gap, Scanner, scanner_for
from headrace.corpus.privacy.surrogates import SUBJECTS, hashed, mask, normalised, pseudonym
from headrace.errors import CorpusError, Problem

Mode = Literal["mask", "hash", "pseudonym", "drop"]
MODES: tuple[Mode, ...] = get_args(Mode)

_ROUNDS = 8
"""A word that was too far from a number may come near it when what lay between is replaced."""


@dataclass(frozen=True)
class Span:
    """What stands in the place of something private, in the new text."""

    type: str
    start: int
    """In code points of the new text."""
    end: int
    detector: str
    validator: str | None
    score: float
    action: str
    """``mask``, ``hash`` or ``pseudonym``."""


@dataclass(frozen=True)
class Result:
    """A text without what was found in it; no field has a private value."""

    text: str | None
    """None if the document must go: by mode ``drop``, or as it could not be searched."""
    spans: tuple[Span, ...] = ()
    """In order; empty without a text."""
    subject_keys: tuple[str, ...] = ()
    """For :func:`~headrace.corpus.privacy.surrogates.subject_keys`; sorted, empty without key."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Found, by type."""
    warnings: tuple[Gap, ...] = ()
    reason: str | None = None
    """Why there is no text."""

    def to_json(self, *, with_text: bool = True) -> dict[str, Any]:
        """For a program."""
        content = asdict(self)
        if not with_text:
            del content["text"]
        return {**content, "counts": dict(sorted(self.counts.items()))}


def deidentify(
    text: str,
    language: str,
    mode: Mode = "mask",
    *,
    key: Key | None = None,
    modes: Mapping[str, Mode] | None = None,
    names: bool = False,
    packs: str | Path | None = None,
) -> Result:
    """Replace what is private in a text.

    Running it on the result finds nothing: masks, hashes and pseudonyms are no findings.

    Args:
        text: any text; it need not be normalised.
        language: BCP-47 tag.
        mode: ``mask`` writes ``<EMAIL>``; ``hash`` ``<EMAIL:abcdefghijkl>``, the same letters for
            the same value under the key; ``pseudonym`` something that looks real and belongs to
            nobody, the same for the same value; ``drop`` leaves out the document.
        key: for ``hash`` and ``pseudonym``, and for ``subject_keys`` in every mode.
        modes: other modes for some types.
        names: look for people's names, where the language has rules for them.
        packs: folder of further packs.

    Raises:
        CorpusError: for a mode that there is not, or one that needs a key without one, and for
            packs that cannot be used.
        MissingExtraError: without the packages of the extra ``corpus``.
    """
    chosen = {"": mode, **(modes or {})}
    _check(chosen, key)
    scanner = scanner_for(language, names, None if packs is None else str(packs))
    counts: Counter[str] = Counter()
    subjects: set[str] = set()
    spans: list[Span] = []
    reason = None
    for _ in range(_ROUNDS):
        scan = scanner.scan(text)
        counts.update(finding.type for finding in scan.findings)
        dropped = sorted({one.type for one in scan.findings if _mode(one, chosen) == "drop"})
        if not scan.complete:
            reason = "the search for private information took too long"
        elif dropped:
            reason = f"private information: {', '.join(dropped)}"
        if not scan.findings or reason:
            break
        if key is not None:
            subjects |= _subjects(text, scan.findings, scanner, key)
        text, spans = _replaced(text, scan.findings, spans, chosen, scanner, key)
    else:
        reason = f"private information was still found after {_ROUNDS} rounds"
    return Result(
        text=None if reason else text,
        spans=() if reason else tuple(spans),
        subject_keys=tuple(sorted(subjects)),
        counts=counts,
        warnings=scanner.warnings,
        reason=reason,
    )


def _check(modes: Mapping[str, str], key: Key | None) -> None:
    problems = []
    for type_, mode in modes.items():
        where = f"mode of {type_}" if type_ else "mode"
        if mode not in MODES:
            remedy = f"Use one of {', '.join(MODES)}"
            problems.append(Problem("no such mode", where, str(mode), remedy))
        elif mode in ("hash", "pseudonym") and key is None:
            remedy = "Name the file of one, or make it with: headrace privacy --make-key FILE"
            problems.append(Problem("the mode needs a key", where, mode, remedy))
    if problems:
        raise CorpusError(problems)


def _mode(finding: Finding, modes: Mapping[str, Mode]) -> Mode:
    return modes.get(finding.type, modes[""])


def _subjects(text: str, findings: Sequence[Finding], scanner: Scanner, key: Key) -> set[str]:
    return {
        key.subject(one.type, normalised(one.type, text[one.start : one.end], scanner.regions))
        for one in findings
        if one.type in SUBJECTS
    }


def _replaced(
    text: str,
    findings: Sequence[Finding],
    before: Sequence[Span],
    modes: Mapping[str, Mode],
    scanner: Scanner,
    key: Key | None,
) -> tuple[str, list[Span]]:
    """The text with its findings replaced, and all spans of it.

    ``before`` are the spans of earlier rounds; one that a finding covers goes with it.
    """
    pieces: list[str] = []
    spans: list[Span] = []
    length = end = 0
    kept = [span for span in before if not _touches(span, findings)]
    parts: list[Finding | Span] = [*findings, *kept]
    for one in sorted(parts, key=lambda part: part.start):
        if isinstance(one, Span):
            action, new = one.action, text[one.start : one.end]
        else:
            action = _mode(one, modes)
            if action == "pseudonym" and _touches(one, before):
                action = "hash"  # with what stands around it a surrogate looks like another value
            new = _replacement(one, text[one.start : one.end], action, scanner, key)
        pieces += [text[end : one.start], new]
        length += one.start - end
        place = (length, length + len(new))
        spans.append(Span(one.type, *place, one.detector, one.validator, one.score, action))
        length, end = place[1], one.end
    return "".join([*pieces, text[end:]]), spans


def _touches(one: Finding | Span, others: Sequence[Finding | Span]) -> bool:
    return any(one.start < other.end and other.start < one.end for other in others)


def _replacement(
    finding: Finding, value: str, action: str, scanner: Scanner, key: Key | None
) -> str:
    if action == "mask" or key is None:
        return mask(finding.type)
    form = normalised(finding.type, value, scanner.regions)
    make = hashed if action == "hash" else pseudonym
    return make(finding.type, form, key)
