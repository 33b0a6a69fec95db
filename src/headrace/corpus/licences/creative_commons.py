"""Creative Commons licences by their names, in many languages, and by their addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources

from headrace.corpus.licences.spdx import spdx_id
from headrace.corpus.licences.text import words

ADDRESS = re.compile(
    r"creativecommons\.org/(?:"
    r"licen[sc]es/(?P<parts>(?:by|nc|nd|sa)(?:-(?:by|nc|nd|sa))*)/(?P<version>\d\.\d)"
    r"(?:/(?P<port>[a-z]{2,3}|scotland)(?![a-z]))?"
    r"|publicdomain/(?P<dedication>zero|mark)/1\.0"
    r"|licen[sc]es/(?P<old>publicdomain))",
    re.IGNORECASE,
)
"""Matches the address of a licence anywhere in a text, with or without a scheme."""
_ORDER = ("by", "nc", "nd", "sa")
_COMPACT = re.compile(r"cc(by)?((?:nc|nd|sa)*)(\d(?:\.\d)?)?")
_MOST_WORDS = 20
_VERSION = re.compile(r"[1-4](?:\.[015])?")


def by_address(match: re.Match[str]) -> str | None:
    """The id of the licence at an address; None for combinations that do not exist.

    A national port that SPDX does not list has the id of the international licence of its
    version, the address says which it is.
    """
    if match["dedication"]:
        return {"zero": "CC0-1.0", "mark": "CC-PDM-1.0"}[match["dedication"].lower()]
    if match["old"]:
        return "CC-PDDC"
    return _id(set(match["parts"].lower().split("-")), match["version"], match["port"])


def by_name(text: str) -> list[str]:
    """The ids of the licences that a text names, sorted.

    Without the words "Creative Commons" or "CC" nothing else may stand in it.  A name without a
    version is a ``LicenseRef-``, and left out where the same name stands there with one.
    """
    tokens = _split(words(text))
    behind = [_behind_anchor(tokens, place) for place in range(len(tokens))]
    if not any(behind):
        found = {_named(tokens, whole=True)} if len(tokens) <= _MOST_WORDS else set()
    else:
        found = {_dedication(tokens[end:]) or _named(tokens[end:], whole=False)
                 for end in behind if end}  # fmt: skip
    names = {name for name in found if name is not None}
    return sorted(
        name
        for name in names
        if not any(other.startswith(f"{name.removeprefix('LicenseRef-')}-") for other in names)
        or not name.startswith("LicenseRef-")
    )


@cache
def _phrases() -> tuple[dict[tuple[str, ...], str], int]:
    """What each phrase stands for, and the words of the longest."""
    data = resources.files("headrace.corpus.licences") / "data" / "creative_commons.json"
    table = {
        tuple(words(phrase)): part
        for part, phrases in json.loads(data.read_text(encoding="utf-8")).items()
        for phrase in phrases
    }
    return table, max(map(len, table))


def _split(tokens: Sequence[str]) -> list[str]:
    """Compact names (``ccbysa4.0``) and Chinese or Japanese ones in pieces."""
    pieces: list[str] = []
    for token in tokens:
        compact = _COMPACT.fullmatch(token)
        if compact:
            parts = re.findall("..", (compact[1] or "") + compact[2])
            pieces += ["cc", *parts, *([compact[3]] if compact[3] else [])]
        elif token.isascii():
            pieces.append(token)
        else:
            pieces += _written_together(token)
    return pieces


def _written_together(token: str) -> list[str]:
    names = sorted(
        (phrase[0] for phrase in _phrases()[0] if len(phrase) == 1 and not phrase[0].isascii()),
        key=len,
        reverse=True,
    )
    return re.findall(
        "|".join([*map(re.escape, names), r".+?(?=" + "|".join(names) + r"|$)"]), token
    )


def _behind_anchor(tokens: Sequence[str], place: int) -> int:
    """The place behind "Creative Commons" or "CC"; 0 if they are not here."""
    table, longest = _phrases()
    for length in range(longest, 0, -1):
        if table.get(tuple(tokens[place : place + length])) == "anchor":
            return place + length
    return 0


def _dedication(tokens: Sequence[str]) -> str | None:
    if tokens[:1] in (["0"], ["zero"]):
        return "CC0-1.0"
    return "CC-PDM-1.0" if tokens[:3] == ["public", "domain", "mark"] else None


def _named(tokens: Sequence[str], *, whole: bool) -> str | None:
    table, longest = _phrases()
    parts: set[str] = set()
    version = port = None
    place = 0
    while place < len(tokens):
        part, length = None, 1
        for length in range(longest, 0, -1):
            part = table.get(tuple(tokens[place : place + length]))
            if part:
                break
        if part == "anchor":
            break
        if part and part != "filler" and version is None:
            parts.add(part)
        elif not part and version is None and parts and _VERSION.fullmatch(tokens[place]):
            version, length = tokens[place], 1
        elif not part and version and port is None and _is_port(parts, version, tokens[place]):
            port, length = tokens[place], 1
        elif part != "filler":
            if whole:
                return None
            break
        place += length
    if not parts or (whole and version is None and len(parts) < 2):
        return None
    return _id(parts, version, port)


def _is_port(parts: set[str], version: str, token: str) -> bool:
    return spdx_id(f"{_name(parts, version)}-{token}") is not None


def _name(parts: set[str], version: str | None) -> str:
    name = "-".join(["CC", *(part.upper() for part in _ORDER if part in parts)])
    return name if version is None else f"{name}-{version if '.' in version else version + '.0'}"


def _id(parts: set[str], version: str | None, port: str | None) -> str | None:
    if {"nd", "sa"} <= parts:
        return None
    name = _name(parts, version)
    if port:
        listed = spdx_id(f"{name}-{port}")
        if listed:
            return listed
    return spdx_id(name) or f"LicenseRef-{name}"
