"""The step of a build that measures documents, and the limits of a recipe."""

import json

import pytest
from pydantic import ValidationError

from headrace.corpus.documents import Document, Filtered
from headrace.corpus.quality import PRESETS, MeasureQuality, QualitySettings

PROSE = "It is a truth that nobody in the house had seen the cat for days. " * 2
ARTICLE = (
    "The council met on Monday to speak about the new bridge over the river. Members of all "
    "parties said that it would be built by next year, though nobody knows how to pay for it. "
    "A first plan had been dropped in spring, when the price of steel went up by a third.\n"
    "“We have no choice,” the mayor told us, and pointed to the old road, which was closed again."
)
VERSE = "The rain is gone,\nthe day is long\nand what is done\nwas never wrong,\nsaid I"
CODE = "for (i = 0; i < n; i++) {\n  a[i] = b[i] + c[i];\n}\nreturn a;"


def document(text, language="en", script="Latn"):
    return Document(
        id="0" * 32, source="s", key="k", text=text, content_hash="", language=language,
        script=script,
    )  # fmt: skip


def rule(found):
    return found.rule if isinstance(found, Filtered) else None


def settings(**content):
    return QualitySettings.model_validate_json(json.dumps(content))


def take(text, language="en", **content):
    return MeasureQuality(settings(**content))(document(text, language))


def test_by_default_documents_are_measured_and_stay():
    found = take("no")
    assert found.quality["words"] == 1
    assert found.register["shape"] == "running"


def test_presets():
    assert rule(take(ARTICLE, preset="gopher")) is None
    assert rule(take("no", preset="gopher")) == "quality:words"
    assert rule(take(ARTICLE + " { }", preset="c4")) == "quality:curly_brackets"
    assert rule(take("\n".join([ARTICLE] * 9), preset="gopher")) == "quality:repeated_lines"
    assert set(PRESETS) == {"none", "gopher", "c4"}


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", 40),
        ("de", 10),
        ("de-AT", 10),
        ("zh-Hant", 5),
        ("zh-Hans", 7),
        ("zh", 7),
        ("fr", None),
    ],
)
def test_limits_are_merged_from_the_general_to_the_special(language, words):
    content = {
        "preset": "gopher",
        "limits": {"words": {"min": 40}, "stop_words": None},
        "by_language": {
            "de": {"words": {"min": 10}},
            "zh": {"words": {"min": 7}},
            "zh_Hant": {"words": {"min": 5}},
            "fr": {"words": None},
        },
    }
    for count in (words - 1, words) if words else (1,):
        text = " ".join(str(number) + "abc" for number in range(count))
        found = take(text, language, **content)
        assert rule(found) == ("quality:words" if words and count < words else None)


def test_the_value_that_decided_is_the_detail_and_the_text_is_not():
    found = take(PROSE, limits={"words": {"min": 99, "max": 500}})
    assert found.detail == "30, wanted at least 99, at most 500"
    assert found.document.quality["words"] == 30


def test_a_measure_that_does_not_apply_leaves_the_document_in():
    assert rule(take(PROSE, "tlh", limits={"stop_words": {"min": 2}})) is None
    assert rule(take(PROSE, "de", limits={"stop_words": {"min": 2}})) == "quality:stop_words"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"limits": {"wordz": {"min": 1}}}, "wordz"),
        ({"limits": {"words": {}}}, "needs min or max"),
        ({"limits": {"words": {"min": 2, "max": 1}}}, "above max"),
        ({"by_language": {"not a tag": {}}}, "not a tag"),
    ],
)
def test_limits_that_make_no_sense_are_refused(content, word):
    with pytest.raises(ValidationError, match=word):
        settings(**content)


@pytest.mark.parametrize(
    ("text", "script", "tags"),
    [
        (ARTICLE, "Latn", {"shape": "running", "sentences": "medium"}),
        (PROSE, "Latn", {"shape": "running", "sentences": "short"}),
        (ARTICLE.replace(".", ","), "Latn", {"shape": "running", "sentences": "long"}),
        (VERSE, "Latn", {"shape": "lines"}),
        (CODE, "Latn", {"shape": "code"}),
        ("- milk\n- bread\n- a bar of soap", "Latn", {"shape": "list"}),
        ("12.5 13.7 15.1\n16.0 17.2 18.8\n", "Latn", {"shape": "data"}),
        ("Who is it? I do not know. Where is he?", "Latn",
         {"shape": "running", "sentences": "short", "questions": "many"}),
        ("我们的朋友从北京到上海去了。" * 3, "Hans", {"shape": "running", "sentences": "short"}),
        ("กรุงเทพมหานครเป็นเมืองหลวง", "Thai", {"shape": "running"}),
    ],
)  # fmt: skip
def test_register(text, script, tags):
    found = MeasureQuality(QualitySettings())(document(text, "und", script))
    assert found.register == tags
