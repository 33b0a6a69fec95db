"""Packs: data files that say how private information looks in a language or a country.

There is one universal pack, one for each country (its identifiers) and one for each language (the
words of its texts, and the countries whose telephone numbers and identifiers occur in them).  A
pack is a Hjson file; docs/privacy.md shows how to write one.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import hjson
import regex
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

from headrace.corpus.privacy.validators import knows_validator
from headrace.errors import CorpusError, Problem

BUILT_IN = Path(__file__).parent / "packs"
"""The folder of the packs that come with Headrace."""
UNIVERSAL = "universal"

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=1000)]
Reach = Annotated[int, Field(ge=0, le=10_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Context(_Strict):
    """Words that must stand near for a match to count, or to count for more."""

    words: list[str] = []
    """Whole words, in any case; ``tel*`` is every word that begins so.  Words of scripts that
    do not part words are looked for anywhere."""
    topics: list[str] = []
    """Names of lists of words; each language's pack has its own (see ``topics`` there)."""
    before: Count = 40
    """How many characters before the match may lie between."""
    after: Count = 0
    """The same behind it."""


class Detector(_Strict):
    """One form of private information."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    type: Annotated[str, Field(pattern=r"^[A-Z][A-Z_]*[A-Z]$")]
    """What is written in the place of what was found: ``EMAIL`` gives ``<EMAIL>``."""
    pattern: str
    """A regular expression (of the module ``regex``) over the folded text; the group ``value``, if
    there is one, is what is private."""
    ignore_case: StrictBool = False
    validator: str | None = None
    """``stdnum:de.idnr`` for a module of python-stdnum, or a name of
    :mod:`headrace.corpus.privacy.validators`."""
    digits: Annotated[int, Field(ge=1, le=40)] | None = None
    """The pattern is tried only where that many digits lie close together."""
    near: list[Annotated[str, Field(min_length=1)]] | None = None
    """The pattern is tried only around these strings (in lower case)."""
    reach: tuple[Reach, Reach] = (64, 256)
    """How far around one of them a match may begin and end, in characters."""
    score: Share
    """How sure a match is without context; below 0.5 it is not a finding."""
    in_context: Share | None = None
    """How sure it is in its context."""
    context: Context | None = None
    names: StrictBool = False
    """It finds names of people, which is done only where it is asked for."""
    match: Annotated[list[str], Field(min_length=1)]
    """Texts in which each ``[[part]]``, and nothing else, must be found with this type."""
    no_match: Annotated[list[str], Field(min_length=1)]
    """Texts in which nothing must be found with this type."""

    @model_validator(mode="after")
    def _fits(self) -> Detector:
        if (self.digits is None) == (self.near is None):
            raise ValueError("give digits or near, one of them")
        if (self.in_context is None) != (self.context is None):
            raise ValueError("context and in_context go together")
        if max(self.score, self.in_context or 0) < 0.5:
            raise ValueError("it would never find anything: no score reaches 0.5")
        if any(text != text.lower() for text in self.near or ()):
            raise ValueError("near is written in lower case")
        if self.validator is not None and not knows_validator(self.validator):
            raise ValueError(f"there is no validator {self.validator}")
        if any("[[" not in text for text in self.match):
            raise ValueError("mark what must be found in each text of match: [[so]]")
        if any("[[" in text for text in self.no_match):
            raise ValueError("a text of no_match has a mark")
        try:
            if expression(self.pattern, self.ignore_case).match(""):
                raise ValueError("the pattern matches the empty text")
        except regex.error as error:
            raise ValueError(f"the pattern is not a regular expression: {error}") from error
        return self


class Pack(_Strict):
    """What one file says."""

    kind: Literal["universal", "country", "language"]
    code: str
    """``universal``, ``DE`` (ISO 3166) or ``de`` (BCP 47, as short as it can be)."""
    name: str
    """In English."""
    countries: list[Annotated[str, Field(pattern=r"^[A-Z]{2}$")]] = []
    """Of a language: where it is written, the most frequent country first."""
    topics: dict[str, list[str]] = {}
    """Words by topic, for the contexts of all detectors."""
    detectors: list[Detector] = []
    match: dict[str, list[str]] = {}
    """Texts by type, for what the words of the pack do to detectors of other packs."""
    no_match: dict[str, list[str]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Pack:
        if self.kind != "language" and self.countries:
            raise ValueError("only the pack of a language has countries")
        names = [detector.name for detector in self.detectors]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two detectors have the name {twice[0]}")
        if self.kind == "language" and not (self.match and self.no_match):
            raise ValueError("the pack of a language needs examples, match and no_match")
        return self


@cache
def expression(pattern: str, ignore_case: bool) -> Any:
    """A compiled expression; many scanners share it."""
    return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)


def folders(extra: str | Path | None) -> tuple[Path, ...]:
    """The folders of packs, those of the caller before the built-in ones.

    Raises:
        CorpusError: if ``extra`` is not a folder.
    """
    if extra is None:
        return (BUILT_IN,)
    if not Path(extra).is_dir():
        remedy = "Name a folder with languages/, countries/ or universal.hjson"
        raise CorpusError(Problem("not a folder of packs", "packs", str(extra), remedy))
    return (Path(extra), BUILT_IN)


def find_pack(kind: str, code: str, extra: str | Path | None = None) -> Pack | None:
    """The pack of a language, of a country, or the universal one; None where there is none.

    Raises:
        CorpusError: for a file that is not a pack, with all that is wrong with it.
    """
    name = f"{code}.hjson" if kind == UNIVERSAL else f"{_FOLDERS[kind]}/{code}.hjson"
    for folder in folders(extra):
        path = folder / name
        if path.is_file():
            pack = _read(path, path.stat().st_mtime_ns)
            if (pack.kind, pack.code) != (kind, code):
                found = f"{pack.kind} {pack.code}"
                problem = Problem("the pack is another one", str(path), found, f"Name it {code}")
                raise CorpusError(problem)
            return pack
    return None


def all_packs(extra: str | Path | None = None) -> list[Pack]:
    """Every pack, the universal one first; the caller's take the place of built-in ones.

    Raises:
        CorpusError: with all that is wrong with any of them.
    """
    found = {
        (kind, path.stem)
        for folder in folders(extra)
        for kind, below in _FOLDERS.items()
        for path in (folder / below).glob("*.hjson")
    }
    packs: list[Pack] = []
    problems: list[Problem] = []
    for kind, code in [(UNIVERSAL, UNIVERSAL), *sorted(found)]:
        try:
            pack = find_pack(kind, code, extra)
        except CorpusError as error:
            problems += error.problems
            continue
        if pack is not None:
            packs.append(pack)
    if problems:
        raise CorpusError(problems)
    return packs


_FOLDERS = {"country": "countries", "language": "languages"}
_TAG = re.compile(r"[A-Za-z]{2,3}(?=-|$)")
_REGION = re.compile(r"-([A-Za-z]{2})(?=-|$)")


def parts_of(language: str) -> tuple[str, str | None]:
    """Language and region of a BCP-47 tag: ``pt-BR`` -> ``pt``, ``BR``."""
    tag = _TAG.match(language)
    region = _REGION.search(language.split("-x-")[0])
    return (tag[0].lower() if tag else language), (region[1].upper() if region else None)


@cache
def _read(path: Path, _changed: int) -> Pack:
    try:
        content: Any = hjson.loads(path.read_text(encoding="utf-8"))
        return Pack.model_validate(content)
    except ValidationError as error:
        problems = [_problem(path, found, content) for found in error.errors()]
    except (OSError, UnicodeDecodeError, hjson.HjsonDecodeError) as error:
        remedy = "Write it as docs/privacy.md shows"
        problems = [Problem(f"cannot be read as Hjson: {error}", str(path), None, remedy)]
    raise CorpusError(problems)


def _problem(path: Path, found: Any, content: Any) -> Problem:
    where, inside = [str(path)], content
    for step in found["loc"]:
        inside = inside[step] if isinstance(inside, list | dict) and step in _steps(inside) else {}
        named = isinstance(inside, dict) and "name" in inside and isinstance(step, int)
        where.append(str(inside["name"]) if named else str(step))
    message = found["msg"].removeprefix("Value error, ")
    return Problem(message[0].lower() + message[1:], ": ".join(where))


def _steps(inside: Any) -> Any:
    return range(len(inside)) if isinstance(inside, list) else inside
