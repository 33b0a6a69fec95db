"""One form for the text of every document: NFC, LF, no control characters; all changes counted.

The order is: surrogates, wrongly decoded text (if asked for), line ends, byte order marks, control
characters, controls of direction, NFC, white space at line ends.  Running it on its own result
changes nothing.  docs/languages.md has the table of what is changed and why.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import regex

from headrace.config.section import Section
from headrace.corpus.documents import Document, Reject, content_hash
from headrace.errors import MissingExtraError

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\u206a-\u206f\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(1, 17))
    + "]"
)
"""C0 but tab and line ends, C1, deprecated format characters, non-characters (Unicode 16, 23.7)."""
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
_POP, _POP_ISOLATE = "\u202c", "\u2069"
_ISOLATES = "\u2066\u2067\u2068"
_CLUSTER = regex.compile(r"\X")
_WRONGLY_DECODED = re.compile(
    "[\xc2-\xf4][\x80-\xbf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013\u2014"
    "\u2018-\u201a\u201c-\u201e\u2020-\u2022\u2026\u2030\u2039\u203a\u20ac\u2122]"
    "|(?:[\u0420\u0421][\x80-\xbf\u0401-\u040f\u0451-\u045f\u0490\u0491"
    "\u2013-\u2026\u2030\u2039\u203a\u20ac\u2116\u2122\u0406\u0456]){2}"
)
"""UTF-8 of two bytes or more read as Windows-1252 or Latin-1; Cyrillic UTF-8 as Windows-1251."""


class NormaliseSettings(Section):
    """How text is normalised."""

    repair_encoding: bool = False
    """Repair lines that look like UTF-8 decoded as something else (`schÃ¶n`), by ftfy."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """A text in its normal form."""

    text: str
    changes: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind, without zeros: ``surrogates`` replaced by U+FFFD (or joined),
    ``repaired lines``, ``line ends``, ``byte order marks``, ``control characters``, ``direction
    controls`` removed, ``composed`` grapheme clusters, ``white space`` removed in characters; and
    ``direction controls kept``, which is no change."""


def normalise(text: str, *, repair: Callable[[str], str] | None = None) -> Normalised:
    """Return the normal form of any text.

    Args:
        text: code points of any kind, also lone surrogates.
        repair: gives the right form of a line that looks wrongly decoded.
    """
    changes: Counter[str] = Counter()
    if not text.isascii():
        if _SURROGATE.search(text):
            text, changes["surrogates"] = _without_surrogates(text)
        if repair is not None and _WRONGLY_DECODED.search(text):
            text, changes["repaired lines"] = _repaired(text, repair)
    if not _is_plain(text):
        text, changes["line ends"] = _LINE_END.subn("\n", text)
        if "\ufeff" in text:
            changes["byte order marks"] = text.count("\ufeff")
            text = text.replace("\ufeff", "")
        text, changes["control characters"] = _CONTROL.subn("", text)
        if _DIRECTION.search(text):
            text = _balanced(text, changes)
    if not unicodedata.is_normalized("NFC", text):
        changes["composed"] = sum(
            1
            for cluster in _CLUSTER.findall(text)
            if not (cluster.isascii() or unicodedata.is_normalized("NFC", cluster))
        )
        text = unicodedata.normalize("NFC", text)
    length = len(text)
    text = "\n".join([line.rstrip() for line in text.split("\n")]).strip("\n")
    changes["white space"] = length - len(text)
    return Normalised(text, {kind: count for kind, count in sorted(changes.items()) if count})


class Normalise:
    """The step: a document with its text and title in normal form, and its content hash.

    What was changed is in ``metadata["normalised"]``.  A document without text is rejected.
    """

    def __init__(self, settings: NormaliseSettings) -> None:
        self._repair = _ftfy() if settings.repair_encoding else None

    def __call__(self, document: Document) -> Document | Reject:
        """Raises nothing, whatever the text is."""
        normal = normalise(document.text, repair=self._repair)
        if not normal.text.strip():
            return Reject(document.key, "empty", "no text", document.offset)
        title = document.title
        if title is not None:
            title = " ".join(normalise(title, repair=self._repair).text.split()) or None
        metadata = dict(document.metadata)
        if normal.changes:
            metadata["normalised"] = dict(normal.changes)
        return replace(
            document,
            text=normal.text,
            title=title,
            content_hash=content_hash(normal.text),
            metadata=metadata,
        )


def _is_plain(text: str) -> bool:
    """Whether it has only what can be seen, blanks and line feeds; some plain texts have more.

    What Python calls printable has no controls, no format characters, no separators but the blank.
    """
    return text.replace("\n", "").isprintable()


def _without_surrogates(text: str) -> tuple[str, int]:
    """Pairs become the character they stand for, lone ones U+FFFD."""
    text, pairs = _PAIR.subn(
        lambda pair: pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), text
    )
    text, lone = _SURROGATE.subn("\ufffd", text)
    return text, pairs + lone


def _repaired(text: str, repair: Callable[[str], str]) -> tuple[str, int]:
    """A text whose suspicious lines are repaired, and how many were.

    By line: text with two encodings is common, and one wrong character would hide all others.
    """
    lines = text.split("\n")
    count = 0
    for number, line in enumerate(lines):
        if _WRONGLY_DECODED.search(line):
            lines[number] = repair(line)
            count += lines[number] != line
    return "\n".join(lines), count


def _balanced(text: str, changes: Counter[str]) -> str:
    """Without embeddings, overrides and isolates that do not end on their line, nor ends alone.

    The scope of each ends with its paragraph (UAX 9, X8); what is left after it turns round or
    hides text that others see.  Pairs are as UAX 9, BD9 to BD11, has them.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        controls = list(_DIRECTION.finditer(line))
        if not controls:
            continue
        kept: set[int] = set()
        open_: list[tuple[str, int]] = []
        for control in controls:
            mark, place = control[0], control.start()
            if mark == _POP:
                if open_ and open_[-1][0] not in _ISOLATES:
                    kept |= {open_.pop()[1], place}
            elif mark == _POP_ISOLATE:
                at = max((at for at, one in enumerate(open_) if one[0] in _ISOLATES), default=None)
                if at is not None:
                    kept |= {open_[at][1], place}
                    del open_[at:]
            else:
                open_.append((mark, place))
        lines[number] = _DIRECTION.sub(partial(_if_kept, kept), line)
        changes["direction controls kept"] += len(kept)
        changes["direction controls"] += len(controls) - len(kept)
    return "\n".join(lines)


def _if_kept(kept: set[int], control: re.Match[str]) -> str:
    return control[0] if control.start() in kept else ""


def _ftfy() -> Callable[[str], str]:
    try:
        from ftfy import fix_encoding
    except ModuleNotFoundError:
        raise MissingExtraError("ftfy", "corpus", "repairing wrongly decoded text") from None
    return fix_encoding
