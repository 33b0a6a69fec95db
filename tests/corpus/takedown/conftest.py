"""A small corpus on disk, as a build leaves it, of documents that tests can recognise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.corpus.catalogue.schema import (
    FILTERED_SCHEMA,
    GOVERNANCE,
    INDEX_SCHEMA,
    ORIGINS_SCHEMA,
    document_row,
)
from headrace.corpus.documents import Document, content_hash, document_id
from headrace.corpus.privacy import Key, load_key, make_key, subject_keys
from headrace.shards import ShardWriter
from headrace.shards.sample import make_sample

LANGUAGES = ("de", "en")
PERSON = "ada.fischer@example.org"
HOSTS = ("news.example.org", "example.com", "blog.example.org")
RARE_HOST = "gone.example.net"
PER_LANGUAGE = 48


@dataclass
class SmallCorpus:
    """What the corpus was made of."""

    folder: Path
    key_file: Path
    key: Key
    documents: dict[str, Document] = field(default_factory=dict)
    """Those in shards, by id."""
    filtered: dict[str, Document] = field(default_factory=dict)

    def ids(self, wanted: Callable[[Document], bool]) -> set[str]:
        return {id_ for id_, document in self.documents.items() if wanted(document)}

    def marks(self, ids: set[str]) -> list[bytes]:
        """Words that only these documents have."""
        return [self.documents[id_].text.split()[0].encode() for id_ in ids]

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


def make_corpus(root: Path) -> SmallCorpus:
    """48 documents in each of two languages, of two sources; some are a person's."""
    folder = root / "corpus"
    key_file = root / "corpus.key"
    make_key(key_file)
    made = SmallCorpus(folder, key_file, load_key(key_file))
    raw = root / "raw.txt"
    lines = b""
    (folder / ".build").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    governance = {
        "web": {name: f"web {name}" for name in GOVERNANCE},
        "books": {name: f"books {name}" for name in GOVERNANCE},
    }
    for language in LANGUAGES:
        with ShardWriter(str(folder / language), samples_per_shard=10) as writer:
            writer.metadata["language"] = language
            for number in range(PER_LANGUAGE):
                source = "web" if number % 3 else "books"
                words = [f"mark{language}{number}x"] + ["river", "mill"] * (1 + number % 9)
                text = " ".join(words)
                own = f"{source}/{language}/{number}"
                host = RARE_HOST if number % 24 == 7 else HOSTS[number % 3]
                document = Document(
                    id=document_id(source, own),
                    source=source,
                    key=own,
                    text=text,
                    content_hash=content_hash(text),
                    url=f"https://{host}/{language}/{number}",
                    language=language,
                    file=str(raw),
                    offset=len(lines),
                    length=len(text),
                    format="lines",
                    subject_keys=subject_keys(PERSON, made.key) if number % 24 == 1 else (),
                    cluster=f"cluster{number // 2}" if number in (2, 3) else None,
                )
                lines += text.encode() + b"\n"
                made.documents[document.id] = document
                sample = make_sample(document.id, text, {"id": document.id, "source": source})
                rows.append(
                    {
                        **document_row(document, governance[source]),
                        "shard": f"shard-{number // 10:06d}.tar",
                        "position": number % 10,
                    }
                )
                writer.write(sample)
    raw.write_bytes(lines)
    twin = Document(
        id=document_id("web", "twin"), source="web", key="twin", text="markTwin",
        content_hash=content_hash("markTwin"), url="https://copies.example.net/2",
        language="en", cluster="cluster1",
    )  # fmt: skip
    made.filtered[twin.id] = twin
    filtered = [
        {**document_row(twin, governance["web"]), "rule": "near duplicate", "detail": "0.9"}
    ]
    pq.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA), folder / "index.parquet")
    pq.write_table(pa.Table.from_pylist(filtered, FILTERED_SCHEMA), folder / "filtered.parquet")
    origins = pa.Table.from_pylist([*rows, *filtered], ORIGINS_SCHEMA)
    pq.write_table(origins, folder / "origins.parquet")
    (folder / "quarantine.jsonl").write_text(
        "".join(
            json.dumps({"key": key, "source": source, "file": "f", "offset": None,
                        "reason": "empty", "detail": ""}) + "\n"
            for source, key in (("web", "broken"), ("books", "torn"), ("web", "twin"))
        )
    )  # fmt: skip
    (folder / ".build" / "part.txt").write_bytes(lines)
    (folder / "corpus.json").write_text(
        json.dumps(
            {
                "name": "small",
                "version": "1",
                "languages": {language: {"folder": language} for language in LANGUAGES},
                "sources": [
                    {"id": source, "governance": values} for source, values in governance.items()
                ],
            }
        )
    )
    return made


@pytest.fixture
def corpus(tmp_path: Path) -> SmallCorpus:
    return make_corpus(tmp_path)
