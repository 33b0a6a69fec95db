"""Language tags: spelling, scripts, and when two agree."""

import pytest
from langcodes.data_dicts import MACROLANGUAGES, NORMALIZED_MACROLANGUAGES

from headrace.corpus.languages.tags import (
    _PRINCIPAL,
    agree,
    canonical,
    primary,
    variety_of,
    with_script,
    written_in,
)


@pytest.mark.parametrize(
    ("tag", "standard"),
    [
        ("pt_br", "pt-BR"),
        ("por-BR", "pt-BR"),
        ("iw", "he"),
        (" EN ", "en"),
        ("zh-cmn-Hans", "zh-Hans"),
        ("", None),
        ("not a tag", None),
        ("123", None),
        ("x", None),
    ],
)
def test_canonical(tag, standard):
    assert canonical(tag) == standard


@pytest.mark.parametrize(
    ("declared", "detected", "both_right"),
    [
        ("zh", "zh-Hans", True),
        ("zh-CN", "zh-Hans", True),
        ("zh-TW", "zh-Hans", False),
        ("zh-Hant", "zh-Hani", True),
        ("cmn", "zh-Hans", True),
        ("nb", "no", True),
        ("nn", "no", False),
        ("pt-BR", "pt", True),
        ("sr", "sr-Latn", True),
        ("sr-Cyrl", "sr-Latn", False),
        ("hr", "sr-Latn", False),
        ("id", "ms", False),
    ],
)
def test_agreement(declared, detected, both_right):
    assert agree(declared, detected) is both_right


def test_the_script_is_in_the_tag_where_it_has_to_be_said():
    assert with_script("sr", "Latn") == "sr-Latn"
    assert with_script("sr", "Cyrl") == "sr-Cyrl"
    assert with_script("zh", "Hani") == "zh"
    assert with_script("en", "Latn") == "en"
    assert with_script("ms", "Latn") == "ms"
    assert with_script("ms", "Arab") == "ms-Arab"
    assert with_script("de", "Cyrl") == "de"


def test_languages_are_in_their_scripts():
    assert written_in("zh", "Hant")
    assert written_in("ja", "Jpan")
    assert written_in("uz", "Cyrl")
    assert not written_in("yo", "Cyrl")
    assert not written_in("de", "Deva")


def test_codes_that_stand_for_one_language_are_one():
    assert primary("nb") == primary("no") == "no"
    assert primary("pt-BR") == "pt"
    assert primary("zh-Hans") == primary("cmn") == "zh"
    assert variety_of("zh-Hans") == variety_of("cmn-Hans") == "zh-Hans"
    assert variety_of("und") == primary("und") == "und"


def test_they_are_what_iso_639_3_has_as_macrolanguages():
    """All but Hebrew of the Bible, which ISO 639-3 takes for a language of its own."""
    known = {**MACROLANGUAGES, **NORMALIZED_MACROLANGUAGES, "hbo": "he"}
    assert {code: known[code] for code in _PRINCIPAL} == _PRINCIPAL
