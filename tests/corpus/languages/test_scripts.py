"""Scripts of texts, against the names of characters, and the forms of Chinese."""

import os
import sys
import unicodedata
from pathlib import Path

import pytest

from headrace.corpus.languages.scripts import main_script, script_counts, script_of_character

NAMES = {
    "LATIN": "Latn", "CYRILLIC": "Cyrl", "GREEK": "Grek", "ARMENIAN": "Armn", "HEBREW": "Hebr",
    "ARABIC": "Arab", "DEVANAGARI": "Deva", "BENGALI": "Beng", "TAMIL": "Taml", "THAI": "Thai",
    "GEORGIAN": "Geor", "ETHIOPIC": "Ethi", "KHMER": "Khmr", "HIRAGANA": "Hira", "KATAKANA": "Kana",
    "HANGUL": "Hang", "CJK": "Hani", "CHEROKEE": "Cher", "ADLAM": "Adlm", "TIFINAGH": "Tfng",
}  # fmt: skip
TRADITIONAL = (
    "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神相對待。"
)
SIMPLIFIED = (
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"
)


def test_scripts_agree_with_the_names_of_letters():
    """For every letter of these scripts, but those that Unicode counts as common."""
    checked = 0
    for point in range(0, sys.maxunicode, 7):
        character = chr(point)
        name = unicodedata.name(character, "")
        script = NAMES.get(name.split(" ")[0])
        found = script_of_character(character)
        if script is None or not character.isalpha() or found is None:
            continue
        if unicodedata.category(character) != "Lm":  # modifier letters keep the name they had
            assert found == script, name
            checked += 1
    assert checked > 10_000


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("", None),
        ("123 +-* 😀 ٣", None),
        ("Hello, мир", "Latn"),
        ("Привет, world! Добрый день", "Cyrl"),
        ("すべての人間は、生まれながらにして自由であり", "Jpan"),
        ("이 선언은 自由와 平等을", "Kore"),
        ("모든 인간은 태어날 때부터", "Kore"),
        (SIMPLIFIED, "Hans"),
        (TRADITIONAL, "Hant"),
        ("人人生而自由", "Hani"),
        ("ትምህርት ቤት", "Ethi"),
        ("e\u0301te\u0301", "Latn"),
    ],
)
def test_main_script(text, script):
    assert main_script(text) == script


def test_marks_and_letters_count_and_nothing_else():
    assert script_counts("aб1 +e\u0301،") == {"Latn": 2, "Cyrl": 1}
    assert script_counts("कि") == {"Deva": 2}


@pytest.mark.skipif("HEADRACE_DATA" not in os.environ, reason="needs real corpora: HEADRACE_DATA")
def test_chinese_documents_are_simplified():
    path = Path(os.environ["HEADRACE_DATA"]) / "ntrex128" / "zh.tsv"
    lines = [line.split("\t")[-1] for line in path.read_text(encoding="utf-8").splitlines()]
    found = [main_script("".join(lines[at : at + 5])) for at in range(0, len(lines), 5)]
    assert found.count("Hans") > 0.99 * len(found)
    assert "Hant" not in found
