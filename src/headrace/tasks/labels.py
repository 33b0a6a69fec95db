"""Label sets of token classification: entity types, their coarse families, and tag ids.

A label set file is a JSON object with a name and the entity types in the order of their ids::

    {"name": "places", "types": {"City": "LOC", "River": "LOC", "Author": "PER"}}

The value of a type is its coarse family.  Types without families can be given as a list,
``"types": ["PER", "LOC"]``; each is then its own family.  Tags follow the IOB2 scheme.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any

import xxhash

from headrace.errors import LabelError, Problem, ShardError
from headrace.shards import storage
from headrace.tasks.spans import OUTSIDE

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

MAXIMUM_TYPES = 16_383
"""Tag ids are stored as int16: 2 x 16,383 + 1 tags have the ids 0 to 32,766."""


@dataclass(frozen=True)
class LabelSet:
    """Entity types with their coarse families; the position of a tag in ``tags`` is its id."""

    name: str
    types: tuple[str, ...]
    """Fine entity types in the order of their ids."""
    coarse: Mapping[str, str]
    """Fine type -> coarse family, for every type."""

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """``("O", "B-x", "I-x", "B-y", "I-y", ...)``: 2 x types + 1 IOB2 tags."""
        tags = [OUTSIDE]
        for type_ in self.types:
            tags += [f"B-{type_}", f"I-{type_}"]
        return tuple(tags)

    @cached_property
    def tag_ids(self) -> Mapping[str, int]:
        """Tag -> id, the inverse of ``tags``."""
        return {tag: number for number, tag in enumerate(self.tags)}

    @cached_property
    def coarse_types(self) -> tuple[str, ...]:
        """Coarse families in the order in which they first appear."""
        return tuple(dict.fromkeys(self.coarse[type_] for type_ in self.types))

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over the tags in order.

        Two label sets with the same fingerprint give the same ids, whatever their names and
        families are: encoded data and the weights of a classification head fit both.
        """
        return xxhash.xxh3_128_hexdigest(json.dumps(self.tags, ensure_ascii=False).encode())

    def unknown_tag(self, tag: str, where: str) -> Problem:
        """The problem of a tag at ``where`` that is not in this label set."""
        guesses = difflib.get_close_matches(tag, self.tags, n=1)
        remedy = "Correct the tag or choose the label set that the data was annotated with"
        if guesses:
            remedy = f"Did you mean {guesses[0]}? {remedy}"
        return Problem(f"the tag is not in the label set {self.name}", where, tag, remedy)


def built_in_label_sets() -> tuple[str, ...]:
    """Names of the label sets that come with Headrace, sorted."""
    folder = resources.files(__package__) / "label_sets"
    files = [entry.name for entry in folder.iterdir() if entry.name.endswith(".json")]
    return tuple(sorted(name.removesuffix(".json") for name in files))


def load_label_set(name_or_path: str) -> LabelSet:
    """Load a built-in label set by name, or one from a JSON file (path or fsspec URL).

    Raises ``LabelError`` with every problem if the name is unknown, or the file is missing or
    not a well-formed label set.
    """
    names = built_in_label_sets()
    if name_or_path in names:
        file = resources.files(__package__) / "label_sets" / f"{name_or_path}.json"
        return parse_label_set(file.read_text(encoding="utf-8"), where=name_or_path)
    if not name_or_path.endswith(".json") and "/" not in name_or_path:
        guesses = difflib.get_close_matches(name_or_path, names, n=1)
        remedy = f"Use one of {', '.join(names)}, or the path of a .json file"
        if guesses:
            remedy = f"Did you mean {guesses[0]}? {remedy}"
        raise LabelError(Problem("unknown label set", "label set", name_or_path, remedy))
    remedy = f"Give the path of a label set file, or one of {', '.join(names)}"
    try:
        text = storage.read_bytes(name_or_path).decode("utf-8")
    except ShardError as error:
        problems = [
            Problem(
                f"the label set file cannot be read: {problem.what}", name_or_path, None, remedy
            )
            for problem in error.problems
        ]
        raise LabelError(problems) from error
    except UnicodeDecodeError as error:
        raise LabelError(
            Problem("the label set file is not UTF-8 text", name_or_path, remedy=remedy)
        ) from error
    return parse_label_set(text, where=name_or_path)


def parse_label_set(text: str, where: str) -> LabelSet:
    """Parse the text of a label set file; ``where`` names the file in error messages.

    Raises ``LabelError`` with every problem found.
    """
    example = 'Write {"name": "...", "types": {"City": "LOC", ...}}'
    try:
        content = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise LabelError(
            Problem(f"not valid JSON: {error.msg}", f"{where}:{error.lineno}", remedy=example)
        ) from error
    if not isinstance(content, _Pairs):
        raise LabelError(Problem("a label set is a JSON object", where, remedy=example))

    problems = []
    for key, _ in content:
        if key not in ("name", "types"):
            remedy = "Remove it; the keys are name and types"
            problems.append(Problem("unknown key", f"{where}: {key}", remedy=remedy))
    for key in ("name", "types"):
        if sum(1 for present, _ in content if present == key) != 1:
            problems.append(Problem("needed exactly once", f"{where}: {key}", remedy=example))
    entries: dict[str, Any] = dict(content)
    name, types = entries.get("name"), entries.get("types")
    if "name" in entries and not (isinstance(name, str) and name.strip()):
        remedy = "Write a text that is not empty"
        problems.append(Problem("not a name", f"{where}: name", json.dumps(name), remedy))
    pairs: list[tuple[Any, Any]] = []
    if isinstance(types, _Pairs):
        pairs = list(types)
    elif isinstance(types, list):
        pairs = [(type_, type_) for type_ in types]
    elif "types" in entries:
        remedy = "Write an object of type and family, or a list of types"
        problems.append(Problem("not a table of types", f"{where}: types", repr(types), remedy))
    if isinstance(types, list) and not types:
        problems.append(Problem("no types", f"{where}: types", remedy="List at least one type"))
    problems += _type_problems(pairs, where)
    if problems:
        raise LabelError(problems)
    coarse = dict(pairs)
    return LabelSet(name=str(name), types=tuple(coarse), coarse=coarse)


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object in order, duplicates included; a dict would hide them."""


def _type_problems(pairs: Iterable[tuple[Any, Any]], where: str) -> list[Problem]:
    """Problems of types and families: not a word, given twice, or too many of them."""
    problems = []
    seen = set()
    for number, (type_, family) in enumerate(pairs):
        place = f"{where}: types[{number}]"
        for kind, value in (("type", type_), ("coarse family", family)):
            # Tags are written in columns separated by blanks, so a blank would end the tag.
            if not isinstance(value, str) or not value or any(char.isspace() for char in value):
                remedy = "Write a text without blanks"
                problems.append(Problem(f"not a name of a {kind}", place, repr(value), remedy))
        if isinstance(type_, str) and type_ in seen:
            problems.append(Problem("the type is given twice", place, type_, "Remove one of them"))
        seen.add(str(type_))
    if len(seen) > MAXIMUM_TYPES:
        remedy = f"Use at most {MAXIMUM_TYPES} types"
        problems.append(Problem("too many types", f"{where}: types", str(len(seen)), remedy))
    return problems


def discover_label_set(readers: Iterable[ShardReader], name: str = "discovered") -> LabelSet:
    """The label set of all entity types that occur in the sources, sorted by name.

    Types come from ``entities`` (type -> count) in the metadata of a manifest, as
    ``headrace build`` writes it, or from a pass over the samples of a source without it.  Each
    type is its own family.

    Raises ``LabelError`` if a sample has no tags, a tag is not an IOB2 tag, or no source has an
    entity.
    """
    problems: list[Problem] = []
    first_places: dict[str, str] = {}
    types: set[str] = set()
    for reader in readers:
        counts = reader.manifest.metadata.get("entities")
        if isinstance(counts, dict) and counts:
            types.update(counts)
            continue
        for sample in reader:
            place = f"{reader.url}: sample {sample.key}"
            tags = sample.metadata.get("tags")
            if not isinstance(tags, list):
                remedy = "Build the shards from annotated text"
                problems.append(Problem("the sample has no tags", place, remedy=remedy))
                break
            for tag in tags:
                first_places.setdefault(str(tag), place)
    for tag, place in first_places.items():
        prefix, _, type_ = tag.partition("-")
        if prefix in ("B", "I") and type_:
            types.add(type_)
        elif tag != OUTSIDE:
            remedy = "Convert the annotation to O, B-type and I-type"
            problems.append(Problem("not an IOB2 tag", place, tag, remedy))
    if not types and not problems:
        remedy = "Use annotated sources, or name a label set"
        problems.append(Problem("no entity in any source", "label set", remedy=remedy))
    if problems:
        raise LabelError(problems)
    return LabelSet(name, tuple(sorted(types)), {type_: type_ for type_ in sorted(types)})
