"""Commands that are killed while they write shards, and a small corpus as a build leaves it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.corpus.catalogue.schema import FILTERED_SCHEMA, INDEX_SCHEMA, document_row
from headrace.corpus.documents import Document, content_hash, document_id
from headrace.shards import ShardWriter
from headrace.shards.sample import make_sample

GOVERNANCE = {
    "title": "Test",
    "custodian": "The library",
    "licence": "CC0-1.0",
    "consent_basis": "open licence",
    "jurisdiction": "EU",
    "region": "Europe",
}
"""What a recipe has to say of a source, besides its id and its files."""
KILLED = """
import os, signal, sys
from headrace.cli import main
from headrace.shards import ShardWriter

write, written = ShardWriter.write, 0

def deadly(self, sample):
    global written
    written += 1
    if written == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, sample)

ShardWriter.write = deadly
main(sys.argv[2:])
"""


@pytest.fixture(scope="session")
def kill_at_sample() -> Callable[[int, Sequence[str]], None]:
    """Runs a command that is killed before it writes the sample of this number, from 1."""

    def run(number: int, command: Sequence[str]) -> None:
        process = subprocess.run(
            [sys.executable, "-c", KILLED, str(number), *command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=False,
        )
        assert process.returncode == -signal.SIGKILL

    return run


@dataclass(frozen=True)
class WrittenCorpus:
    """A corpus on disk, and what was written into it."""

    path: Path
    documents: tuple[Document, ...]
    filtered: tuple[tuple[Document, str, str], ...]
    quarantine: tuple[dict[str, Any], ...]

    def of(self, language: str) -> list[Document]:
        return [document for document in self.documents if document.language == language]


SOURCES = [
    {
        "id": "news",
        "title": "Village <news> & more",
        "custodian": "The village",
        "licence": "CC-BY-4.0",
        "consent_basis": "open licence",
        "jurisdiction": "KE",
        "region": "Kenya",
        "terms_of_service": "https://news.example.org/terms",
        "homepage": "https://news.example.org",
        "collected_at": "2026-01-02",
        "note": None,
    },
    {
        "id": "web",
        "title": "Pages of the web",
        "custodian": "Web archive | Ltd",
        "licence": "unknown",
        "consent_basis": "legitimate interest",
        "jurisdiction": "EU",
        "region": "worldwide",
        "terms_of_service": None,
        "homepage": None,
        "collected_at": None,
        "note": "crawled",
    },
]
SHAPES: list[dict[str, str]] = [
    {"shape": "running", "sentences": "short"},
    {"shape": "running", "sentences": "long"},
    {"shape": "list"},
]
WORDS = {
    "en": ["river", "mill", "water", "stone", "the", "a", "wheel", "carries"],
    "sw": ["mto", "maji", "jiwe", "gurudumu", "kinu", "na", "ya", "hubeba"],
    "zh": list("水车河石头的轮子带"),
    "und": ["xq", "zzt", "brr"],
}


def made_document(source: str, number: int, language: str, **changes: Any) -> Document:
    words = WORDS[language]
    count = 20 + 7 * (number % 11)
    picked = [words[(number * 5 + place * place) % len(words)] for place in range(count)]
    text = ("" if language == "zh" else " ").join(picked)
    key = f"{language}/{number:04d}.txt"
    values: dict[str, Any] = {
        "url": f"https://{'www.' if number % 2 else 'blog.'}{source}.example.org/{number}",
        "title": f"{language} {number}",
        "format": "text",
        "encoding": "utf-8",
        "file": f"/data/{source}/{key}",
        "language": language,
        "language_score": None if language == "und" else 0.5 + (number % 50) / 100,
        "language_method": "none" if language == "und" else "py3langid",
        "detected_language": None if language == "und" else language,
        "declared_language": None if number % 3 else language,
        "script": {"zh": "Hani"}.get(language, "Latn"),
        "register": {"formality": "formal" if number % 4 else "informal", **SHAPES[number % 3]},
        "licence": "CC-BY-4.0" if source == "news" else "LicenseRef-unknown",
        "licence_evidence": "source",
        "quality": {"words": float(count), "mean_word_length": 3 + (number % 9) / 3},
    }
    return Document(
        id=document_id(source, key),
        source=source,
        key=key,
        text=text,
        content_hash=content_hash(text),
        **{**values, **changes},
    )


def with_span(document: Document) -> Document:
    """The document with a mail address that has been taken out."""
    text = f"Write to <EMAIL> today. {document.text}"
    span = {"type": "EMAIL", "start": 9, "end": 16, "detector": "email", "action": "mask"}
    return replace(
        document,
        text=text,
        private=(span,),
        private_counts={"EMAIL": 1},
        subject_keys=("subject-1",),
    )


def write_corpus(
    path: Path,
    sizes: dict[tuple[str, str], int],
    name: str,
    quality: dict[str, Any] | None = None,
) -> WrittenCorpus:
    """Write a corpus with so many documents by source and language.

    Every tenth document has a mail address taken out; of each source and language one is of a
    cluster with a near-duplicate that was left out, and one was too short.
    """
    governance = {source["id"]: source for source in SOURCES}
    documents, filtered, quarantine = [], [], []
    for (source, language), size in sizes.items():
        made = [made_document(source, number, language) for number in range(size)]
        made = [with_span(one) if n % 10 == 3 else one for n, one in enumerate(made)]
        made[0] = replace(made[0], cluster=made[0].id)
        if language == "sw":
            mixed = {"detected_language": "en", "declared_language": "sw"}
            made[1] = replace(made[1], **mixed, languages={"sw": 0.6, "en": 0.4})
            made[2] = replace(made[2], detected_language="und", declared_language="sw")
            made[5] = replace(made[5], variety="sw-KE")
            # ISO 639-3 for Swahili in the narrower sense: it does not contradict the detector
            made[6] = replace(made[6], variety="sw-TZ", declared_language="swh-TZ")
        documents += made
        copy = made_document(source, 900, language, cluster=made[0].id)
        filtered.append((copy, "near duplicate", made[0].id))
        short = made_document(source, 901, language)
        filtered.append((short, "quality:words", "9"))
        quarantine.append(
            {"key": f"{language}/bad.pdf", "source": source, "file": f"/data/{source}/bad.pdf",
             "offset": None, "reason": "unreadable", "detail": "no end"}
        )  # fmt: skip
    index = []
    languages = sorted({document.language for document in documents})
    for language in languages:
        ordered = [document for document in documents if document.language == language]
        with ShardWriter(str(path / language), name=language, samples_per_shard=25) as writer:
            for number, document in enumerate(ordered):
                row = document_row(document, governance[document.source])
                private = [dict(span) for span in document.private]
                metadata = {"source": document.source, "private": private, "speaker": "somebody"}
                writer.write(make_sample(document.id, document.text, metadata))
                shard, position = divmod(number, 25)
                row["cluster_kind"] = document.cluster and "near"
                row |= {"shard": f"{language}-{shard:06d}.tar", "position": position}
                index.append(row)
    left_out = [
        document_row(document, governance[document.source])
        | {"rule": rule, "detail": detail, "cluster_kind": document.cluster and "near"}
        for document, rule, detail in filtered
    ]
    pq.write_table(pa.Table.from_pylist(index, INDEX_SCHEMA), path / "index.parquet")
    pq.write_table(pa.Table.from_pylist(left_out, FILTERED_SCHEMA), path / "filtered.parquet")
    lines = "".join(json.dumps(row) + "\n" for row in quarantine)
    (path / "quarantine.jsonl").write_text(lines)
    counts = {
        source["id"]: {
            "read": sum(row["source"] == source["id"] for row in (*index, *left_out, *quarantine))
        }
        for source in SOURCES
    }
    corpus = {
        "name": name,
        "counts": counts,
        "version": "1.0",
        "sources": SOURCES,
        "languages": {language: {"folder": language} for language in languages},
        "recipe": {"quality": quality},
        "warnings": ["no privacy pack for sw: only the universal one was used"],
    }
    (path / "corpus.json").write_text(json.dumps(corpus))
    return WrittenCorpus(path, tuple(documents), tuple(filtered), tuple(quarantine))


SIZES = {
    ("news", "en"): 30, ("news", "sw"): 60, ("web", "en"): 25, ("web", "zh"): 12, ("web", "und"): 4,
}  # fmt: skip


@pytest.fixture(scope="session")
def written_corpus(tmp_path_factory: pytest.TempPathFactory) -> WrittenCorpus:
    """A corpus of four languages and two sources; not to be changed."""
    folder = tmp_path_factory.mktemp("catalogue") / "river"
    folder.mkdir()
    return write_corpus(folder, SIZES, "River texts")


@pytest.fixture
def own_corpus(written_corpus: WrittenCorpus, tmp_path: Path) -> WrittenCorpus:
    """A copy of it that may be changed."""
    path = tmp_path / "river"
    shutil.copytree(written_corpus.path, path)
    return replace(written_corpus, path=path)


@pytest.fixture(scope="session")
def other_corpus(tmp_path_factory: pytest.TempPathFactory) -> WrittenCorpus:
    """Another one, with fewer languages."""
    folder = tmp_path_factory.mktemp("catalogue") / "other"
    folder.mkdir()
    quality = {
        "limits": {"words": {"min": 40, "max": 80}, "mean_word_length": {"min": 3.2}},
        "by_language": {"sw": {"words": None}, "zh": {"words": None, "mean_word_length": None}},
    }
    return write_corpus(folder, {("news", "en"): 10, ("news", "sw"): 11}, "Other texts", quality)
