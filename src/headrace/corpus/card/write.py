"""Writing a card into the folder of a corpus, and checking whether it still fits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.corpus.card.blocks import BLOCKS, block, blocks_of
from headrace.corpus.card.croissant import HUMAN, croissant
from headrace.corpus.card.description import Description, read_description
from headrace.corpus.card.facts import read_facts
from headrace.corpus.card.readme import (
    MARK,
    front_matter,
    metadata,
    render_readme,
    render_statement,
)
from headrace.errors import CorpusError, Problem
from headrace.shards import storage

README_NAME = "README.md"
STATEMENT_NAME = "data_statement.md"
CROISSANT_NAME = "croissant.json"
DESCRIPTION_NAME = "card.yaml"
_AGAIN = "Write the card again: headrace card CORPUS"


def write_card(url: str, describe: Path | None = None) -> list[str]:
    """Write README.md, data_statement.md and croissant.json; what they still lack (TODO).

    Args:
        url: folder of the corpus, on this machine.
        describe: what people have to say about it; it is kept in the folder as ``card.yaml``,
            which is read where none is given.

    Raises :class:`UserError` for a corpus or a description that is not right, and if a file of
    these names was not written by this function.
    """
    facts = read_facts(url)
    description = _description(url, describe)
    readme = storage.join(url, README_NAME)
    if storage.exists(readme) and MARK not in storage.read_bytes(readme).decode("utf-8", "replace"):
        remedy = "Put its text into card.yaml and move it away"
        raise CorpusError(Problem("somebody wrote it by hand", readme, None, remedy))
    texts = {
        README_NAME: render_readme(facts, description),
        STATEMENT_NAME: render_statement(facts, description),
        CROISSANT_NAME: _json(croissant(facts, description)),
    }
    if describe is not None:
        texts[DESCRIPTION_NAME] = describe.read_text(encoding="utf-8")
    for name, text in texts.items():
        storage.write_atomically(storage.join(url, name), text.encode("utf-8", "replace"))
    return [name for name in Description.model_fields if not getattr(description, name)]


def check_card(url: str) -> list[Problem]:
    """All that a card says and that is not so any more, one problem for each part that differs.

    Raises :class:`CorpusError` where a file of the card is missing or damaged.
    """
    facts = read_facts(url)
    description = _description(url, None)
    problems: list[Problem] = []
    for name in (README_NAME, STATEMENT_NAME):
        text = _read(storage.join(url, name))
        found = blocks_of(text)
        wanted = README_BLOCKS if name == README_NAME else STATEMENT_BLOCKS
        for part in wanted:
            new = blocks_of(block(facts, part))[part]
            if found.get(part) != new:
                problems.append(_stale(f"{name}: {part}", _difference(found.get(part), new)))
        if name == README_NAME:
            lines = front_matter(metadata(facts, description)).splitlines()
            head = text.split("\n\n", 1)[0].splitlines()
            if head != lines:
                change = _difference("\n".join(head), "\n".join(lines))
                problems.append(_stale(f"{name}: metadata", change))
    where = storage.join(url, CROISSANT_NAME)
    try:
        document = json.loads(_read(where))
    except ValueError as error:
        raise CorpusError(Problem("not JSON", where, str(error), _AGAIN)) from error
    wanted_document = {k: v for k, v in croissant(facts, description).items() if k not in HUMAN}
    found_document = {k: v for k, v in document.items() if k not in HUMAN}
    for path, old, new_value in _changes(found_document, wanted_document, ""):
        change = f"{_short(_plain(old))}, now {_short(_plain(new_value))}"
        problems.append(_stale(f"{CROISSANT_NAME}: {path}", change))
    return problems


README_BLOCKS = tuple(BLOCKS)
STATEMENT_BLOCKS = ("rules", "languages", "sizes", "governance")


def _description(url: str, describe: Path | None) -> Description:
    if describe is not None:
        return read_description(describe)
    kept = storage.local_path(storage.join(url, DESCRIPTION_NAME))
    return read_description(kept) if kept.exists() else Description()


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _read(where: str) -> str:
    if not storage.exists(where):
        raise CorpusError(Problem("the card is not written yet", where, None, _AGAIN))
    return storage.read_bytes(where).decode("utf-8", "replace")


def _stale(where: str, change: str) -> Problem:
    return Problem("it does not fit the corpus any more", where, change, _AGAIN)


def _difference(old: str | None, new: str) -> str:
    """The first line that differs, as it was and as it is."""
    if old is None:
        return "missing"
    before, after = old.splitlines(), new.splitlines()
    for number in range(max(len(before), len(after))):
        one = before[number] if number < len(before) else "nothing"
        other = after[number] if number < len(after) else "nothing"
        if one != other:
            return f"{_short(one)}, now {_short(other)}"
    return "other line ends"


def _changes(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """The places at which two JSON documents differ, as deep as they can be told."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _changes(old.get(name), new.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changes(one, other, f"{path}.{number}")
    elif old != new:
        yield path, old, new


def _plain(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"
