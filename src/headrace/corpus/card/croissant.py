"""``croissant.json``: the corpus for machines, as Croissant 1.0 with its RAI fields.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html and croissant-rai-spec.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from headrace.corpus.card.description import Contact, Description, words
from headrace.corpus.card.facts import Facts
from headrace.corpus.card.licences import identifiers
from headrace.corpus.catalogue.schema import INDEX_NAME, INDEX_SCHEMA
from headrace.counts import counted

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
HUMAN = frozenset(
    ("description", "creator", "publisher", "citeAs", "url", "datePublished", "keywords")
) | {
    f"rai:{name}"
    for name in (
        "dataCollection", "dataUseCases", "dataLimitations", "dataBiases", "dataSocialImpact",
        "dataReleaseMaintenancePlan", "dataAnnotationProtocol", "annotatorDemographics",
    )
}  # fmt: skip
"""Keys that come from the description: they do not go stale."""
_OPTIONAL_STEPS = (
    ("privacy", "private information"), ("quality", "quality measures"),
    ("duplicates", "duplicates"),
)  # fmt: skip
"""Sections of a recipe that may be null, and what is done to documents where they are not."""


def croissant(facts: Facts, description: Description) -> dict[str, Any]:
    """The document."""
    totals = facts.summary["totals"]
    licences = [description.licence] if description.licence else facts.licences
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [
            "http://mlcommons.org/croissant/1.0",
            "http://mlcommons.org/croissant/RAI/1.0",
        ],
        "name": description.title or facts.name,
        "description": description.summary or facts.description or words(description, "summary"),
        "version": _semantic(facts.version),
        "license": [_licence_url(spdx) for spdx in identifiers(licences)],
        "inLanguage": facts.languages,
        "url": description.homepage or "TODO",
        "keywords": list(description.keywords) or ["text"],
        "citeAs": words(description, "citation"),
        "datePublished": description.published,
        "creator": [_person(one) for one in description.creators],
        "publisher": [_person(one) for one in description.contacts],
        "size": f"{counted(totals['documents'], 'document')}, {totals['bytes']:,} bytes of text",
        "distribution": _distribution(facts),
        "recordSet": [_documents()],
        **_responsible(facts, description),
    }
    return {name: value for name, value in document.items() if value not in (None, [])}


def _semantic(version: str) -> str:
    """Croissant wants MAJOR.MINOR.PATCH."""
    digits = re.findall(r"\d+", version)[:3]
    return ".".join([*digits, *["0"] * (3 - len(digits))])


def _licence_url(spdx: str) -> str:
    if spdx.startswith("LicenseRef-"):
        return spdx
    return f"https://spdx.org/licenses/{spdx}.html"


def _person(contact: Contact) -> dict[str, Any]:
    found = {"@type": "sc:Person", "name": contact.name, "email": contact.email, "url": contact.url}
    return {name: value for name, value in found.items() if value}


def _distribution(facts: Facts) -> list[dict[str, Any]]:
    index = {
        "@type": "cr:FileObject",
        "@id": "index",
        "name": INDEX_NAME,
        "description": "A row a document: what is known about it, without its text.",
        "contentUrl": INDEX_NAME,
        "encodingFormat": "application/x-parquet",
        "sha256": facts.index_sha256,
    }
    shards = [
        {
            "@type": "cr:FileSet",
            "@id": f"shards-{language}",
            "name": f"shards-{language}",
            "description": f"WebDataset shards of {counted(count, 'document')} in {language}.",
            "encodingFormat": "application/x-tar",
            "includes": f"{folder}/*.tar",
        }
        for language, folder, count in _counts(facts)
    ]
    return [index, *shards]


def _counts(facts: Facts) -> list[tuple[str, str, int]]:
    counts = {row["language"]: row["documents"] for row in facts.summary["by"]["language"]}
    return [(name, folder, counts[name]) for name, folder in facts.folders.items()]


def _documents() -> dict[str, Any]:
    """The rows of the index; columns of maps and lists have no counterpart in Croissant."""
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"documents/{column.name}",
            "name": column.name,
            "dataType": kind,
            "source": {"fileObject": {"@id": "index"}, "extract": {"column": column.name}},
        }
        for column in INDEX_SCHEMA
        if (kind := _data_type(column.type)) is not None
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "documents",
        "name": "documents",
        "key": {"@id": "documents/id"},
        "field": fields,
    }


def _data_type(kind: pa.DataType) -> str | None:
    for is_kind, name in (
        (pa.types.is_string, "sc:Text"),
        (pa.types.is_integer, "sc:Integer"),
        (pa.types.is_floating, "sc:Float"),
    ):
        if is_kind(kind):
            return name
    return None


def _responsible(facts: Facts, description: Description) -> dict[str, Any]:
    """The fields of the RAI extension."""
    summary = facts.summary
    findings: dict[str, int] = {}
    for row in summary["private"]:
        findings[row["type"]] = findings.get(row["type"], 0) + row["findings"]
    private = [f"{kind}: {count:,} replaced" for kind, count in sorted(findings.items())]
    private += [warning for warning in facts.warnings if "priva" in warning]
    rules = sorted({row["rule"] for row in summary["removal"]})
    collected = sorted({str(s["collected_at"]) for s in facts.sources if s.get("collected_at")})
    optional = [step for section, step in _OPTIONAL_STEPS if facts.recipe.get(section) is not None]
    found: Mapping[str, Any] = {
        "dataCollection": words(description, "curation"),
        "dataCollectionType": ["Secondary data analysis"],
        "dataCollectionMissingData": (
            f"{summary['totals']['quarantined']:,} records could not be read or used; the language "
            f"of {counted(summary['identification']['undetected'], 'document')} is not known"
        ),
        "dataCollectionRawData": "; ".join(
            f"{source.get('title') or source.get('id')} ({source.get('custodian')})"
            for source in facts.sources
        ),
        "dataCollectionTimeFrame": [f"{day}T00:00:00" for day in collected if len(day) == 10],
        "dataPreprocessingProtocol": [
            "; ".join(["Unicode NFC", "language identification", "licences", *optional]),
            *(f"Rule: {rule}" for rule in rules),
        ],
        "dataAnnotationProtocol": [words(description, "annotators")],
        "dataUseCases": [words(description, "uses")],
        "dataLimitations": [words(description, "limits")],
        "dataBiases": [words(description, "biases")],
        "dataSocialImpact": words(description, "social_impact"),
        "personalSensitiveInformation": private,
        "dataReleaseMaintenancePlan": words(description, "maintenance"),
    }
    return {f"rai:{name}": value for name, value in found.items()}
