"""The step of a build that tells languages, and its rules."""

import pytest
from pydantic import ValidationError

from headrace.corpus.documents import Document, Filtered
from headrace.corpus.languages import IdentifyLanguage, LanguageSettings, disagree

ENGLISH = "All human beings are born free and equal in dignity and rights, and with reason."
FRENCH = "Tous les êtres humains naissent libres et égaux en dignité et en droits, dit-on."


def document(text, declared=None):
    return Document(
        id="0" * 32, source="s", key="k", text=text, content_hash="", declared_language=declared
    )


def take(text, declared=None, **settings):
    return IdentifyLanguage(LanguageSettings(**settings))(document(text, declared))


def test_all_that_is_known_is_in_the_document():
    found = take(ENGLISH, "EN_us")
    assert (found.language, found.variety) == ("en", "en-US")
    assert found.language_method == "declared"
    assert (found.declared_language, found.detected_language) == ("en-US", "en")
    assert (found.script, found.languages, found.text) == ("Latn", {}, ENGLISH)
    assert found.language_score > 0.5
    assert not disagree(found.declared_language, found.detected_language)


def test_what_is_no_language_tag_is_kept_aside():
    found = take(ENGLISH, "British English")
    assert (found.language, found.declared_language) == ("en", None)
    assert found.metadata == {"declared_language": "British English"}


@pytest.mark.parametrize("nothing", ["und", "mul", "MIS", "zxx", "und-Latn"])
def test_what_names_no_language_decides_nothing(nothing):
    found = take(ENGLISH, nothing)
    assert (found.language, found.language_method) == ("en", "py3langid")
    assert (found.declared_language, found.metadata) == (None, {"declared_language": nothing})
    unknown = take("ok", nothing)
    assert (unknown.language, unknown.variety, unknown.language_method) == ("und", "und", "none")


@pytest.mark.parametrize(
    ("declared", "language", "variety"),
    [
        ("pes", "fa", "fa"),
        ("prs", "fa", "fa-AF"),
        ("fas", "fa", "fa"),
        ("en-US", "en", "en-US"),
        ("eng-Latn-GB", "en", "en-GB"),
        ("nb-NO", "no", "no-NO"),
        ("nn", "nn", "nn"),
        ("cmn-Hant-TW", "zh", "zh-Hant-TW"),
        ("yue", "yue", "yue"),
        ("sh-Cyrl", "sr", "sr-Cyrl"),
        ("ca-valencia", "ca", "ca-valencia"),
        ("tl", "fil", "fil"),
        ("gsw", "gsw", "gsw"),
        ("x-hill-talk", "x-hill-talk", "x-hill-talk"),
    ],
)
def test_a_language_has_one_code_and_the_tag_keeps_the_rest(declared, language, variety):
    found = take(ENGLISH, declared)
    assert (found.language, found.variety) == (language, variety)
    assert found.tag == variety


def test_the_detected_script_is_in_the_variety_alone():
    found = take("這是一個用來測試的句子，說的是臺灣的天氣和學校。這個學期我們學習語言。")
    assert (found.language, found.variety) == ("zh", "zh-Hant")


@pytest.mark.parametrize(
    ("text", "declared", "settings", "rule"),
    [
        (FRENCH, None, {"keep": ("en", "pt-BR")}, "language"),
        (ENGLISH, None, {"keep": ("en", "pt-BR")}, None),
        ("ok", None, {"keep": ("en",)}, None),
        ("ok", None, {}, None),
        ("ok", None, {"drop_undetermined": True}, "language:undetermined"),
        ("ok", "fr", {"drop_undetermined": True}, None),
        (FRENCH, "en", {}, None),
        (FRENCH, "en", {"drop_disagreeing": True}, "language:disagreement"),
        (FRENCH, "fr-CA", {"drop_disagreeing": True}, None),
        (FRENCH, None, {"drop_disagreeing": True}, None),
    ],
)
def test_rules(text, declared, settings, rule):
    found = take(text, declared, **settings)
    assert (found.rule if isinstance(found, Filtered) else None) == rule
    if rule is not None:
        assert found.document.script == "Latn"
        assert text not in found.detail


def test_languages_of_a_recipe_must_be_tags():
    with pytest.raises(ValidationError, match="French"):
        LanguageSettings(keep=("fr", "the French"))
