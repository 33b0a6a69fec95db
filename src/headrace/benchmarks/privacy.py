"""How much private information is found, and how much of what is found is private.

Precision and recall by type on texts with gold spans, of :func:`headrace.corpus.privacy.find` and
of presidio's pattern recognizers; processor time on plain texts.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from headrace.corpus.privacy import deidentify, find

PEER = Path("scripts") / "privacy_peers" / "presidio_findings.py"
SURE = 0.5
"""Presidio gives every pattern some score; it is measured with all and with these alone."""

_ENGLISH = {
    "ACCOUNT": "BANK_ACCOUNT", "ACCOUNT_NUMBER": "BANK_ACCOUNT", "BANK_ACCOUNT": "BANK_ACCOUNT",
    "BANK_ACCOUNT_NUM": "BANK_ACCOUNT", "ROUTING_NUMBER": "BANK_ACCOUNT",
    "AADHAR": "NATIONAL_ID", "SSN": "NATIONAL_ID", "US_SSN": "NATIONAL_ID",
    "VOTER_ID": "NATIONAL_ID", "PAN": "TAX_ID", "TAXID": "TAX_ID", "TAX_ID": "TAX_ID",
    "CREDIT_CARD": "CREDIT_CARD", "DRIVER_LICENSE": "DRIVING_LICENCE",
    "DRIVER_LICENSE_NUM": "DRIVING_LICENCE", "LICENSE": "DRIVING_LICENCE",
    "US_DRIVER_LICENSE": "DRIVING_LICENCE", "EMAIL": "EMAIL", "EMAIL_ADDRESS": "EMAIL",
    "IBAN": "IBAN", "IBAN_CODE": "IBAN", "INSURANCE_ID": "HEALTH_ID", "PATIENT_ID": "HEALTH_ID",
    "PID": "HEALTH_ID", "IP_ADDRESS": "IP_ADDRESS", "PASSPORT": "PASSPORT",
    "PASSWORD": "PASSWORD", "PERSON": "PERSON", "PHONE": "PHONE", "PHONE_NUMBER": "PHONE",
}  # fmt: skip
_SPANISH = {
    "CORREO_ELECTRONICO": "EMAIL", "NUMERO_TELEFONO": "PHONE", "NUMERO_FAX": "PHONE",
    "ID_SUJETO_ASISTENCIA": "HEALTH_ID", "ID_CONTACTO_ASISTENCIAL": "HEALTH_ID",
    "ID_ASEGURAMIENTO": "NATIONAL_ID", "ID_TITULACION_PERSONAL_SANITARIO": "PROFESSIONAL_ID",
    "NOMBRE_SUJETO_ASISTENCIA": "PERSON", "NOMBRE_PERSONAL_SANITARIO": "PERSON",
}  # fmt: skip
_PRESIDIO = {
    "CREDIT_CARD": "CREDIT_CARD", "CRYPTO": "CRYPTO_ADDRESS", "EMAIL_ADDRESS": "EMAIL",
    "ES_NIE": "NATIONAL_ID", "ES_NIF": "NATIONAL_ID", "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP_ADDRESS", "MAC_ADDRESS": "MAC_ADDRESS", "MEDICAL_LICENSE": "PROFESSIONAL_ID",
    "PHONE_NUMBER": "PHONE", "UK_NHS": "HEALTH_ID", "US_BANK_NUMBER": "BANK_ACCOUNT",
    "US_DRIVER_LICENSE": "DRIVING_LICENCE", "US_ITIN": "TAX_ID", "US_PASSPORT": "PASSPORT",
    "US_SSN": "NATIONAL_ID",
}  # fmt: skip


@dataclass(frozen=True)
class GoldSet:
    """Texts with gold spans."""

    name: str
    files: tuple[str, ...]
    types: Mapping[str, str]
    """Gold label -> type of Headrace; labels that are not in it no rule looks for."""
    seen: bool
    """Whether the rules were written with these very texts at hand."""


SETS = (
    GoldSet("presidio_synth", ("presidio_synth/synth_v2.jsonl",), _ENGLISH, True),
    GoldSet("pii_nano", ("pii_nano/pii_nano_en.jsonl",), _ENGLISH, True),
    GoldSet("meddocan (dev)", ("meddocan/dev.jsonl",), _SPANISH, True),
    GoldSet("meddocan (train)", ("meddocan/train.jsonl.gz",), _SPANISH, False),
)
PLAIN = (
    ("en", "ntrex128/en.tsv"), ("de", "ntrex128/de.tsv"), ("es", "ntrex128/es.tsv"),
    ("hi", "ntrex128/hi.tsv"), ("fa", "ntrex128/fa.tsv"), ("zh", "ntrex128/zh.tsv"),
    ("en", "tldr_docs/en.jsonl"), ("es", "meddocan/dev.jsonl"),
)  # fmt: skip
"""Language and file of the texts whose processor time is taken."""
DOCUMENT = 2000
"""Characters of each."""

Span = tuple[str, int, int]
"""Type, start, end."""


def measure(data: Path, peer: str | None, root: Path) -> dict[str, Any]:
    """Everything that the page shows.

    Args:
        data: folder of the corpora.
        peer: Python of an environment with presidio-analyzer, or None.
        root: the repository.

    Raises:
        subprocess.CalledProcessError: if the peer fails.
    """
    sets, versions = [], {name: version(name) for name in ("phonenumbers", "python-stdnum")}
    for gold_set in SETS:
        documents = [one for file in gold_set.files for one in _documents(data / file)]
        found = {"headrace": [_ours(one) for one in documents]}
        if peer is not None:
            spans, summary = _presidio(documents, peer, root)
            versions["presidio-analyzer"] = summary["version"]
            found["presidio"] = [[one[:3] for one in each] for each in spans]
            found[f"presidio, score >= {SURE}"] = [
                [one[:3] for one in each if one[3] >= SURE] for each in spans
            ]
        sets.append(_of_set(gold_set, documents, found))
    return {
        "name": "privacy",
        "sets": sets,
        "speed": [_speed(data, language, file, peer, root) for language, file in PLAIN],
        "versions": versions,
    }


def score(
    gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]
) -> dict[str, dict[str, int]]:
    """Counts by type, over all documents.

    ``gold`` of a type, ``hit`` (those of which at least half is covered by findings of the same
    type), ``found``, and ``right`` (findings of which at least half lies in gold spans of the
    type).  The type ``any`` is all of them: gold spans that are covered whole by findings of
    whatever type, and findings that lie in gold spans of whatever type.
    """
    counts: dict[str, Counter[str]] = {}
    for gold_spans, found_spans in zip(gold, found, strict=True):
        for type_ in {one[0] for one in (*gold_spans, *found_spans)}:
            wanted = [one for one in gold_spans if one[0] == type_]
            given = [one for one in found_spans if one[0] == type_]
            counter = counts.setdefault(type_, Counter())
            counter.update(gold=len(wanted), found=len(given))
            counter["hit"] += sum(_covered(one, given) >= 0.5 for one in wanted)
            counter["right"] += sum(_covered(one, wanted) >= 0.5 for one in given)
        wanted = [one for one in gold_spans if one[0] != "PERSON"]
        given = [one for one in found_spans if one[0] != "PERSON"]
        counter = counts.setdefault("any", Counter())
        counter.update(gold=len(wanted), found=len(given))
        counter["hit"] += sum(_covered(one, given) == 1 for one in wanted)
        counter["right"] += sum(_covered(one, wanted) >= 0.5 for one in given)
    names = ("gold", "hit", "found", "right")
    return {type_: {name: counts[type_][name] for name in names} for type_ in sorted(counts)}


def _covered(span: Span, others: Iterable[Span]) -> float:
    """The share of a span that others cover."""
    places = set(range(span[1], span[2]))
    for _, start, end in others:
        places.difference_update(range(start, end))
    return 1 - len(places) / max(1, span[2] - span[1])


def _of_set(
    gold_set: GoldSet, documents: Sequence[Mapping[str, Any]], found: Mapping[str, Any]
) -> dict[str, Any]:
    gold, others = [], Counter[str]()
    for document in documents:
        spans = []
        for one in document["spans"]:
            type_ = gold_set.types.get(one["label"])
            if type_ is None:
                others[one["label"]] += 1
            else:
                spans.append((type_, one["start"], one["end"]))
        gold.append(spans)
    scores = {tool: score(gold, each) for tool, each in found.items()}
    # a type that no gold span has says nothing by its findings: they count in "any"
    types = sorted({type_ for each in gold for type_, _, _ in each})
    empty = {"gold": 0, "hit": 0, "found": 0, "right": 0}
    return {
        "name": gold_set.name,
        "documents": len(documents),
        "seen": gold_set.seen,
        "not_looked_for": dict(sorted(others.items())),
        "types": {
            type_: {tool: scores[tool].get(type_, empty) for tool in found}
            for type_ in [*types, "any"]
        },
    }


def _documents(path: Path) -> list[dict[str, Any]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in raw.decode("utf-8").splitlines()]


def _ours(document: Mapping[str, Any]) -> list[Span]:
    scan = find(document["text"], document["lang"], names=True)
    return [(one.type, one.start, one.end) for one in scan.findings]


def _presidio(
    documents: Sequence[Mapping[str, Any]], python: str, root: Path
) -> tuple[list[list[tuple[str, int, int, float]]], dict[str, Any]]:
    """Its findings of types that it shares with Headrace, and its summary."""
    lines = "".join(
        json.dumps({"text": one["text"], "lang": one["lang"]}) + "\n" for one in documents
    )
    done = subprocess.run(
        [python, str(root / PEER)], input=lines, capture_output=True, text=True, check=True
    )
    *results, last = [json.loads(line) for line in done.stdout.splitlines()]
    spans = [
        [(_PRESIDIO[kind], *rest) for kind, *rest in one["spans"] if kind in _PRESIDIO]
        for one in results
    ]
    return spans, last["summary"]


def _speed(data: Path, language: str, file: str, peer: str | None, root: Path) -> dict[str, Any]:
    """Documents for each second of processor time."""
    path = data / file
    if path.suffix == ".tsv":
        lines = path.read_text(encoding="utf-8").splitlines()
        whole = "\n".join(line.split("\t")[-1] for line in lines)
    else:
        whole = "\n".join(one["text"] for one in _documents(path))
    texts = [whole[start : start + DOCUMENT] for start in range(0, len(whole), DOCUMENT)][:200]
    find(texts[0], language)  # compiles
    start = time.process_time()
    findings = sum(len(find(text, language).findings) for text in texts)
    seconds = time.process_time() - start
    start = time.process_time()
    for text in texts:
        deidentify(text, language)
    masking = time.process_time() - start
    row = {
        "language": language,
        "file": file,
        "documents": len(texts),
        "findings": findings,
        "find_per_second": len(texts) / seconds,
        "mask_per_second": len(texts) / masking,
    }
    if peer is not None and language in ("en", "es"):
        documents = [{"text": text, "lang": language} for text in texts]
        _, summary = _presidio(documents, peer, root)
        row["presidio_per_second"] = len(texts) / summary["seconds"]
    return row
