"""What licence a statement names: an SPDX expression, an address, or a name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache, reduce
from importlib import resources

from headrace.corpus.licences import creative_commons
from headrace.corpus.licences.spdx import both, expression, spdx_id, spdx_ids
from headrace.corpus.licences.text import words

LONGEST = 2000
"""Characters of a statement that are looked at."""
_NOISE = frozenset({
    "the", "a", "an", "of", "under", "terms", "this", "work", "is", "are", "released", "available",
    "licence", "license", "licensed", "licences", "licenses", "licencia", "lizenz", "licenza",
    "licenca",
})  # fmt: skip
"""Words that do not tell one licence from another."""
_ADDRESSES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"opensource\.org/licen[sc]es?/(?P<id>[\w.+-]*[\w+])", "{id}"),
        (r"spdx\.org/licenses/(?P<id>[\w.+-]*?[\w+])(?=\.html|\.txt|\.json|[^\w.+-]|\.?$)", "{id}"),
        (r"opendatacommons\.org/licen[sc]es/odbl", "ODbL-1.0"),
        (r"opendatacommons\.org/licen[sc]es/by", "ODC-By-1.0"),
        (r"opendatacommons\.org/licen[sc]es/pddl", "PDDL-1.0"),
        (r"apache\.org/licen[sc]es/licen[sc]e-2\.0", "Apache-2.0"),
        (r"gnu\.org/licen[sc]es/(?:old-licen[sc]es/)?fdl-(?P<id>\d\.\d)", "GFDL-{id}-only"),
        (
            r"gnu\.org/licen[sc]es/(?:old-licen[sc]es/)?(?P<name>a?gpl|lgpl)-(?P<id>\d\.\d)",
            "{name}-{id}-only",
        ),
        (r"mozilla\.org/(?:\w\w-\w\w/)?mpl/2\.0", "MPL-2.0"),
        (r"unlicense\.org(?![\w.])", "Unlicense"),
        (
            r"nationalarchives\.gov\.uk/doc/open-government-licence/version/(?P<id>\d)",
            "OGL-UK-{id}.0",
        ),
        (r"govdata\.de/dl-de/(?P<id>by|zero)-2-0", "DL-DE-{id}-2.0"),
        (r"etalab\.gouv\.fr/licence-ouverte-open-licence", "etalab-2.0"),
    )
)


@dataclass(frozen=True)
class Recognised:
    """A licence, and by what it was found."""

    expression: str
    """SPDX."""
    evidence: str
    """The address, or the name in its usual spelling; nothing else of the statement."""


@lru_cache(maxsize=4096)
def recognise(statement: str) -> Recognised | None:
    """Return the licence that a statement names, or None.

    Looked for, in this order: the addresses of licences anywhere in the text; an SPDX expression;
    a Creative Commons licence anywhere in it; the name of another licence, if it says nothing else.
    A text that names several licences of Creative Commons, or has several addresses, is under all
    of them.
    """
    text = statement[:LONGEST].strip()
    found = _by_address(text)
    if found is not None or not text:
        return found
    parsed = expression(text) if "\n" not in text else None
    if parsed is not None:
        return Recognised(parsed, parsed)
    names = creative_commons.by_name(text)
    if names:
        spelt = ", ".join(name.removeprefix("LicenseRef-") for name in names)
        return Recognised(_all_of(names), spelt)
    key = _key(text)
    name = _names().get(key)
    return None if name is None else Recognised(name, key)


def _by_address(text: str) -> Recognised | None:
    found: dict[str, str] = {}
    for match in creative_commons.ADDRESS.finditer(text):
        name = creative_commons.by_address(match)
        if name is not None:
            found.setdefault(name, match[0].lower())
    for pattern, template in _ADDRESSES:
        for match in pattern.finditer(text):
            name = spdx_id(template.format(**match.groupdict()))
            if name is not None:
                found.setdefault(name, match[0].lower())
    if not found:
        return None
    return Recognised(_all_of(found), " ".join(found[name] for name in sorted(found)))


def _all_of(names: Iterable[str]) -> str:
    return reduce(both, sorted(names))


@cache
def _names() -> dict[str, str]:
    """Ids of licences by their names: those of our table, and all ids as words."""
    data = resources.files("headrace.corpus.licences") / "data" / "names.json"
    table = {_key(name): name for name in reversed(spdx_ids())}
    for name, spellings in json.loads(data.read_text(encoding="utf-8")).items():
        table.update(dict.fromkeys(map(_key, spellings), name))
    return table


def _key(text: str) -> str:
    """The words that tell licences apart, each once: ``The MIT License (MIT)`` is ``mit``."""
    return " ".join(dict.fromkeys(word for word in words(text) if word not in _NOISE))
