"""What a recipe admits: nothing is left out silently, and both licences bind."""

import json

import pytest
from pydantic import ValidationError

from headrace.corpus.documents import Document, Filtered, content_hash
from headrace.corpus.licences.settings import LicenceSettings
from headrace.corpus.licences.spdx import UNKNOWN
from headrace.corpus.licences.step import LicenceStep, source_problems, terms_problems


def settings(**values):
    return LicenceSettings.model_validate_json(json.dumps(values))


def take(source, own=None, **values):
    step = LicenceStep(settings(**values), {"s": source})
    document = Document(
        id="0" * 32, source="s", key="k", text="t", content_hash=content_hash("t"),
        licence=own or source, licence_evidence="document" if own else "source",
    )  # fmt: skip
    return step(document)


def kept(*arguments, **values):
    result = take(*arguments, **values)
    if isinstance(result, Filtered):
        assert result.rule == "licence"
        return False
    return True


@pytest.mark.parametrize(
    ("source", "own", "licence", "evidence"),
    [
        ("CC BY 4.0", None, "CC-BY-4.0", "source: CC-BY-4.0"),
        ("unknown", None, UNKNOWN, "source: unknown"),
        ("see the web site", None, UNKNOWN, "source: not recognised"),
        ("unknown", "CC0", "CC0-1.0", "document: CC0-1.0"),
        ("CC0-1.0", "cc zero", "CC0-1.0", "document: CC0-1.0"),
        (
            "CC0",
            "https://creativecommons.org/licenses/by-nc/4.0/",
            "CC-BY-NC-4.0 AND CC0-1.0",
            "conflict: document: creativecommons.org/licenses/by-nc/4.0; source: CC0-1.0",
        ),
        ("CC0", "© Anna Muster", UNKNOWN, "document: not recognised; source: CC0-1.0"),
        ("CC0", "unknown", UNKNOWN, "document: unknown; source: CC0-1.0"),
    ],
)
def test_document_and_source(source, own, licence, evidence):
    result = take(source, own)
    assert (result.licence, result.licence_evidence) == (licence, evidence)


def test_by_default_everything_is_kept():
    for source in ("CC BY-NC-ND 4.0", "unknown", "all rights reserved", "LicenseRef-x"):
        assert kept(source)


def test_unknown_is_kept_or_dropped_as_the_recipe_says():
    assert kept("unknown", unknown="keep", allow=["permissive"])
    assert not kept("unknown", unknown="drop")
    assert not kept("CC0", "© Anna Muster", unknown="drop")
    result = take("unknown", unknown="drop")
    assert (result.rule, result.detail) == ("licence", UNKNOWN)
    assert result.document.licence == UNKNOWN


def test_allow_and_deny_by_id_and_by_group():
    assert kept("CC BY 4.0", allow=["cc-by-4.0"])
    assert not kept("CC BY 3.0", allow=["CC-BY-4.0"])
    assert kept("MIT", allow=["permissive", "public-domain"])
    assert not kept("CC BY-SA 4.0", allow=["permissive", "public-domain"])
    assert kept("CC BY-NC-SA 4.0", allow=["share-alike"])
    assert not kept("CC BY-NC-SA 4.0", allow=["share-alike"], deny=["non-commercial"])
    assert not kept("CC BY-ND 4.0", deny=["no-derivatives"])
    assert kept("LicenseRef-press", allow=["LicenseRef-press"])
    assert not kept("LicenseRef-press", allow=["permissive"])


def test_the_stricter_of_two_licences_decides():
    assert not kept("CC0", "CC BY-NC 4.0", deny=["non-commercial"])
    assert not kept("CC BY-NC 4.0", "CC0", deny=["non-commercial"])
    assert kept("MIT OR GPL-3.0-only", deny=["share-alike"])
    assert not kept("MIT AND GPL-3.0-only", deny=["share-alike"])


def test_terms_of_service_forbid_whatever_the_licence_says():
    assert terms_problems(["commercial"], [], "forbids") == []
    assert terms_problems(["commercial"], ["training"], "forbids") == []
    (problem,) = terms_problems(["training", "commercial"], ["training"], "forbids")
    assert (problem.where, problem.value) == ("forbids", "training")


def test_a_recipe_with_a_licence_that_there_is_not():
    with pytest.raises(ValidationError, match=r"did you mean CC-BY-4\.0"):
        settings(allow=["CC-BY-4.00"])
    with pytest.raises(ValidationError, match="non-commercial"):
        settings(deny=["noncommercial"])
    assert source_problems("CC BY 4.0", "sources[0].licence") == []
    assert source_problems("unknown", "sources[0].licence") == []
    (problem,) = source_problems("some licence", "sources[0].licence")
    assert problem.where == "sources[0].licence"
    assert problem.value == "some licence"
