"""The SPDX list: which ids there are, what they ask for, and expressions made of them.

Ids and categories are those of the package license-expression, which has the index of ScanCode's
licence database with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from headrace.errors import MissingExtraError

UNKNOWN = "LicenseRef-unknown"
"""No licence is named, or none that is recognised."""
_REFERENCE = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")
_GROUPS_OF_CATEGORIES = {
    "Public Domain": {"public-domain"},
    "Permissive": {"permissive"},
    "Copyleft": {"share-alike"},
    "Copyleft Limited": {"share-alike"},
    "Proprietary Free": {"proprietary"},
    "Commercial": {"proprietary"},
    "Free Restricted": {"proprietary"},
    "Source-available": {"proprietary"},
}
_GROUPS_OF_REFERENCES = {
    "LicenseRef-public-domain": {"public-domain"},
    "LicenseRef-all-rights-reserved": {"proprietary"},
    "LicenseRef-GPL": {"share-alike"},
    "LicenseRef-LGPL": {"share-alike"},
    "LicenseRef-AGPL": {"share-alike"},
    "LicenseRef-GFDL": {"share-alike"},
    "LicenseRef-Apache": {"permissive"},
    "LicenseRef-BSD": {"permissive"},
    "LicenseRef-OGL-UK": {"permissive"},
}
"""Of names without a version, and of statements that are no licence of the list."""
_CREATIVE_COMMONS = re.compile(r"(?:LicenseRef-)?CC-((?:BY|NC|ND|SA)(?:-(?:BY|NC|ND|SA))*)(?:-|$)")


@cache
def _library() -> Any:
    try:
        import license_expression
    except ImportError as error:
        raise MissingExtraError("license-expression", "corpus", "reading licences") from error
    return license_expression


@cache
def _licensing() -> Any:
    return _library().get_spdx_licensing()


@cache
def _categories() -> dict[str, str]:
    return {
        entry["spdx_license_key"]: entry["category"]
        for entry in _library().get_license_index()
        if entry.get("spdx_license_key") and entry.get("category")
    }


@cache
def _by_lower_case() -> dict[str, str]:
    table: dict[str, str] = {}
    for key, symbol in _licensing().known_symbols.items():
        if not symbol.is_exception:
            table[key.lower()] = key
            for alias in symbol.aliases:
                table.setdefault(alias.lower(), key)
    return table


def spdx_ids() -> list[str]:
    """All ids of licences on the list, without those that ScanCode adds to it."""
    return sorted(key for key in _by_lower_case().values() if not key.startswith("LicenseRef-"))


def spdx_id(text: str) -> str | None:
    """The id as SPDX spells it, if the text is one; deprecated ones become their successors."""
    return _by_lower_case().get(text.strip().lower())


def expression(text: str) -> str | None:
    """Return an SPDX expression in its normal spelling, or None if the text is none.

    Every name in it must be on the list, or begin with ``LicenseRef-``.
    """
    library = _library()
    try:
        parsed = _licensing().parse(text)
    except (library.ExpressionError, library.ParseError):
        return None
    if parsed is None:
        return None
    unknown = _licensing().unknown_license_keys(parsed)
    if any(_REFERENCE.fullmatch(name) is None for name in unknown):
        return None
    return str(parsed.simplify().render())


def both(first: str, second: str) -> str:
    """Return the expression for a document that is under the one and the other."""
    joint = _licensing().AND(_licensing().parse(first), _licensing().parse(second))
    return str(joint.simplify().render())


def holds(text: str, accepted: Callable[[str], bool]) -> bool:
    """Whether a document under an expression may be used: ``AND`` asks for all, ``OR`` for one.

    A licence with an exception counts as the licence.
    """

    def follow(node: Any) -> bool:
        if isinstance(node, _licensing().AND):
            return all(map(follow, node.args))
        if isinstance(node, _licensing().OR):
            return any(map(follow, node.args))
        return accepted(str(getattr(node, "license_symbol", node).key))

    return follow(_licensing().parse(text))


@lru_cache(maxsize=4096)
def groups(name: str) -> frozenset[str]:
    """The groups of one licence, see :data:`headrace.corpus.licences.settings.GROUPS`."""
    if name in _GROUPS_OF_REFERENCES:
        return frozenset(_GROUPS_OF_REFERENCES[name])
    match = _CREATIVE_COMMONS.match(name)
    if match:
        parts = match[1].split("-")
        asked = {"SA": "share-alike", "NC": "non-commercial", "ND": "no-derivatives"}
        return frozenset(asked[part] for part in parts if part in asked) or frozenset(
            {"permissive"}
        )
    found = set(_GROUPS_OF_CATEGORIES.get(_categories().get(name, ""), ()))
    if "-NC" in name.upper() or "noncommercial" in name.lower():
        found.add("non-commercial")
    return frozenset(found)
