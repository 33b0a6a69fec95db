"""A corpus that `headrace build` made of files of several formats, whose documents tests know."""

from __future__ import annotations

import csv
import gzip
import json
import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from headrace.cli import main
from headrace.corpus.documents import document_id
from headrace.corpus.privacy import Key, make_key
from tests.corpus.conftest import GOVERNANCE
from tests.corpus.takedown.conftest import LANGUAGES, PERSON, RARE_HOST

NUMBERS = {"books": 14, "web": 18, "letters": 10, "notes": 6}
"""Documents of a source in each language."""
TWIN = 11
"""This document of the web is nearly the same as the book of its number."""
WORDS = [
    f"{first}{second}{last}"
    for first in ("ri", "chan", "wa", "whee")
    for second in ("na", "lo", "mi")
    for last in ("ver", "nel", "ter")
]


@dataclass(frozen=True)
class Text:
    """A document as it stands in its file."""

    source: str
    language: str
    number: int
    key: str
    text: str
    url: str | None

    @property
    def id(self) -> str:
        return document_id(self.source, self.key)

    @property
    def mark(self) -> str:
        """A word that no other document has."""
        return mark_of(self.source, self.language, self.number)


def mark_of(source: str, language: str, number: int) -> str:
    return f"{source}{'abcdefghijklmnopqr'[number]}mark{language}"


@dataclass
class BuiltCorpus:
    """Files, the recipe, and what was built."""

    root: Path
    key: Key
    texts: dict[str, Text] = field(default_factory=dict)
    """All documents that were read, by id."""

    @property
    def folder(self) -> Path:
        return self.root / "corpus"

    @property
    def inputs(self) -> Path:
        return self.root / "in"

    @property
    def key_file(self) -> Path:
        return self.root / "corpus.key"

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    def of(self, source: str, language: str) -> list[Text]:
        found = [text for text in self.texts.values() if text.source == source]
        return [text for text in found if text.language == language]

    def one(self, source: str, language: str, number: int) -> Text:
        return self.of(source, language)[number]

    def of_person(self) -> set[str]:
        return {text.id for text in self.texts.values() if PERSON in text.text}

    def of_host(self) -> set[str]:
        return {text.id for text in self.texts.values() if RARE_HOST in str(text.url)}

    def marks(self, ids: Iterable[str]) -> list[bytes]:
        """Words that only these documents have."""
        return [self.texts[id_].mark.encode() for id_ in ids]

    def build(self, output: Path) -> None:
        command = ["build", "--recipe", str(self.recipe), "--output", str(output)]
        assert main([*command, "--workers", "1"]) == 0

    def remove(self, *options: str) -> int:
        return main(["remove", str(self.folder), "--key", str(self.key_file),
                     "--cache-dir", str(self.root / "encoded"), *options])  # fmt: skip


def make_files(root: Path) -> BuiltCorpus:
    """Packed JSON lines, CSV, Parquet, and files of a document each, and a recipe for them."""
    root.mkdir()
    made = BuiltCorpus(root, make_key(root / "corpus.key"))
    for language in LANGUAGES:
        for source, count in NUMBERS.items():
            for number in range(count):
                text = _text(made, source, language, number)
                made.texts[text.id] = text
    for source in NUMBERS:
        (made.inputs / source).mkdir(parents=True)
        for language in LANGUAGES:
            _write(made, source, language)
    patterns = {"books": "??.csv", "web": "??.jsonl.gz", "letters": "??.parquet", "notes": "*.txt"}
    sources = [
        {**GOVERNANCE, "id": source, "files": [str(made.inputs / source / pattern)],
         "language": "from_file_name"}
        for source, pattern in patterns.items()
    ]  # fmt: skip
    recipe = {
        "name": "removable",
        "version": "1",
        "sources": sources,
        "privacy": {"mode": "hash", "key": str(made.key_file)},
        "output": {"samples_per_shard": 10},
    }
    made.recipe.write_text(yaml.safe_dump(recipe))
    return made


def _text(made: BuiltCorpus, source: str, language: str, number: int) -> Text:
    dice = random.Random(f"{source} {language} {number}")
    words = dice.choices(WORDS, k=6 + 3 * (number % 7))
    url = None
    if source in ("books", "web"):
        host = RARE_HOST if source == "web" and number in (3, TWIN) else f"{source}.example.com"
        url = f"https://{host}/{language}/{number}"
    if (source, number) in (("books", 5), ("letters", 2), ("notes", 1)):
        words.insert(4, f"<{PERSON}>")
    mark = mark_of(source, language, number)
    if (source, number) == ("books", TWIN):
        words = dice.choices(WORDS, k=80)
    if (source, number) == ("web", TWIN):
        twin = made.one("books", language, TWIN)
        words = twin.text.split()[1:]
    key = f"{language}.{number}.txt" if source == "notes" else f"{_file(source, language)}#{number}"
    return Text(source, language, number, key, " ".join([mark, *words]), url)


def _file(source: str, language: str) -> str:
    return {"books": f"{language}.csv", "web": f"{language}.jsonl.gz"}.get(
        source, f"{language}.parquet"
    )


def _write(made: BuiltCorpus, source: str, language: str) -> None:
    folder, texts = made.inputs / source, made.of(source, language)
    rows = [{"id": str(one.number), "url": one.url, "text": one.text} for one in texts]
    path = folder / _file(source, language)
    if source == "notes":
        for one in texts:
            (folder / one.key).write_text(one.text)
    elif source == "books":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, ["id", "url", "text"], quoting=csv.QUOTE_ALL)
            table.writeheader()
            # a row of several lines
            table.writerows({**row, "text": str(row["text"]).replace(" ", "\n", 1)} for row in rows)
    elif source == "web":
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(lines.encode(), mtime=0))
    else:
        columns = {name: [row[name] for row in rows] for name in ("id", "text")}
        kinds = pa.array([one.mark for one in texts]).dictionary_encode()
        table = pa.table({**columns, "kind": kinds, "tags": [[one.mark] for one in texts]})
        pq.write_table(table, path, row_group_size=4, compression="zstd")


@dataclass(frozen=True)
class Snapshot:
    """A built corpus to which everything goes back: tables name files by their paths."""

    made: BuiltCorpus
    copy: Path

    def restored(self) -> BuiltCorpus:
        shutil.rmtree(self.made.root, ignore_errors=True)
        shutil.copytree(self.copy, self.made.root)
        return self.made


def contents(paths: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    """Bytes of files, and what is packed in them: values of Parquet, members of gzip."""
    for path in paths:
        data = path.read_bytes()
        yield path, data
        if path.suffix == ".parquet":
            yield path, json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
        if path.suffix == ".gz":
            yield path, gzip.decompress(data)
