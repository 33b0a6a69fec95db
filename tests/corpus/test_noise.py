from __future__ import annotations

import os
import random
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.corpus import keyboards
from headrace.corpus.noise import KINDS, Noise, parse_noise, units_of
from headrace.errors import Problem

WORDS = {
    "en": "The old miller's lamp O'Brien modern village 1998 U.S.",
    "de": "Die Straße nach Köln über Österreich",
    "tr": "İstanbul ilinde IŞIK ılık",
    "hi": "प्रधान मंत्री ने क्षेत्र में हिन्दी की कृति श्रीमती",
    "bn": "বাংলাদেশের প্রধানমন্ত্রী ক্ষমা বিশ্ববিদ্যালয়",
    "th": "ประเทศไทย น้ำใจ สวัสดี กำลัง",
    "ar": "مُحَمَّد انطفأ المصباح وجلست",
    "ta": "நன்றி தமிழ்நாடு க்ஷமை",
    "ko": "대한민국 서울",
    "zh": "灯 灭 了 她坐在黑暗里",
    "ru": "Пётр купил дом в Йошкар-Оле",
}
EVERYTHING = Noise(typing=0.3, ocr=0.3, casing=0.3, text_casing=0.3)


def marks(word: str) -> list[str]:
    """What stands behind the first character of each cluster that begins with a letter."""
    return [unit[1:] for unit in units_of(word) if unit[0].isalpha() and unit[1:]]


@pytest.mark.parametrize("language", WORDS)
def test_no_cluster_is_split(language: str) -> None:
    words = WORDS[language].split()
    changed = 0
    noise = Noise(typing=0.4, ocr=0.3)
    for seed in range(300):
        noisy = noise.of_sample(random.Random(seed), language).words(words)
        assert len(noisy) == len(words)
        for before, after in zip(words, noisy, strict=True):
            assert after
            assert not unicodedata.category(after[0]).startswith("M")
            # by the standard's own clusters: each mark is behind a letter, with all that it had
            there = Counter(marks(before))
            assert set(marks(after)) <= set(there), (before, after)
            assert all(cluster[0].isalpha() for cluster in regex.findall(r"\X", after)
                       if regex.search(r"\p{M}", cluster))  # fmt: skip
            changed += before != after
    assert changed > 200


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(max_size=40),
    seed=st.integers(0, 2**32),
    language=st.sampled_from([None, "xx", "pt-BR", *WORDS]),
)
def test_words_stay_words_whatever_the_text(text: str, seed: int, language: str | None) -> None:
    noisy = EVERYTHING.of_sample(random.Random(seed), language).text(text)
    assert len(noisy.split()) == len(text.split())
    assert regex.findall(r"\s+", noisy) == regex.findall(r"\s+", text)
    again = EVERYTHING.of_sample(random.Random(seed), language).text(text)
    assert noisy == again


@settings(max_examples=200, deadline=None)
@given(word=st.text(st.characters(exclude_categories=("Zs", "Zl", "Zp", "Cc", "Cs")), max_size=12))
def test_typing_makes_of_a_word_nothing_but_its_units_and_keys_beside(word: str) -> None:
    near = keyboards.neighbours("qwerty")
    typed = Noise(typing=1.0).of_sample(random.Random(1), "en").words([word])[0]
    allowed = set(units_of(word))
    for unit in list(allowed):
        others = near.get(unit[0]) or near.get(unit[0].lower(), "").upper()
        allowed |= {other + unit[1:] for other in others}
    assert set(units_of(typed)) <= allowed


@pytest.mark.parametrize(("kind", "rate"), [("typing", 0.05), ("ocr", 0.1), ("casing", 0.2)])
def test_rates_are_those_that_are_asked_for(kind: str, rate: float) -> None:
    words = ["nothing"] * 20_000  # each of 7 letters looks like another
    noisy = Noise(**{kind: rate}).of_sample(random.Random(2), "en").words(words)
    changed = sum(a != b for a, b in zip(words, noisy, strict=True)) / len(words)
    places = 1 if kind == "casing" else 7
    assert changed == pytest.approx(1 - (1 - rate) ** places, abs=0.03)


def test_a_whole_text_has_one_form_of_letters() -> None:
    words = ["Der", "Zug", "nach", "KÖLN", "hält"]
    noise = Noise(text_casing=1.0)
    found = {tuple(noise.of_sample(random.Random(seed), "de").words(words)) for seed in range(40)}
    assert found == {
        ("der", "zug", "nach", "köln", "hält"),
        ("DER", "ZUG", "NACH", "KÖLN", "HÄLT"),
        ("Der", "Zug", "Nach", "Köln", "Hält"),
    }
    turkish = {noise.of_sample(random.Random(seed), "tr").words(["ışIİi"])[0] for seed in range(40)}
    assert turkish == {"ışıii", "IŞIİİ", "Işıii"}


def test_errors_are_those_of_the_keyboard_of_the_language() -> None:
    assert set(keyboards.neighbours("qwerty")["g"]) == set("fhtyvb")
    assert "z" in keyboards.neighbours("qwertz")["t"]
    assert "y" not in keyboards.neighbours("qwertz")["t"]
    assert "a" in keyboards.neighbours("azerty")["z"]
    # Latin letters in a text of another script
    assert keyboards.neighbours("devanagari")["q"] == keyboards.neighbours("qwerty")["q"]
    assert keyboards.layout_of("de-CH") == "qwertz"
    assert keyboards.layout_of("sw") is None
    for layout in set(keyboards.layouts()) - {"bengali"}:  # which has a letter on two keys
        letters = [key for row in keyboards.rows_of(layout) for key in row if key != " "]
        assert len(letters) == len(set(letters)) > 15
        near = keyboards.neighbours_of(keyboards.rows_of(layout))
        assert all(letter in near[other] for letter in near for other in near[letter])


def test_recognition_confuses_shapes() -> None:
    noise = Noise(ocr=1.0)

    def read(word: str, language: str | None = None) -> set[str]:
        return {noise.of_sample(random.Random(n), language).words([word])[0] for n in range(99)}

    assert read("corn") == {"eam", "e0m", "eOm"}
    assert read("m") == {"rn", "nn"}
    assert read("घेरा", "hi") == {"धेसा"}  # vowel signs stay
    assert read("दिन") == {"दिन"}


def test_what_is_wrong_with_rates_is_said_all_at_once() -> None:
    problems: list[Problem] = []
    assert parse_noise("typing:0.05, ocr:1", problems) == Noise(typing=0.05, ocr=1.0)
    assert not problems
    parse_noise("typo:0.1,ocr:2,casing,typing:0.1,typing:0.2", problems)
    assert [problem.what for problem in problems] == [
        "no such kind of noise", "not a probability", "not a probability", "given twice",
    ]  # fmt: skip
    assert "typing" in str(problems[0])
    assert Noise(ocr=0.5).settings() == {"ocr": 0.5}
    assert set(KINDS) == {"typing", "ocr", "casing", "text_casing"}


def test_a_letter_beside_takes_the_marks_over() -> None:
    found = {
        Noise(typing=1.0).of_sample(random.Random(seed), "hi").words(["की"])[0]
        for seed in range(60)
    }
    assert "कीकी" in found  # it cannot be lost or swapped
    letters = {unit[0] for word in found for unit in units_of(word)}
    assert letters == {"क", *keyboards.neighbours("devanagari")["क"]}
    assert {unit[1:] for word in found for unit in units_of(word)} == {"ी"}


def test_units_are_whole_conjuncts() -> None:
    assert units_of("क्षेत्र") == ["क्षे", "त्र"]
    assert units_of("မြန်မာ") == ["မြ", "န်", "မာ"]


@pytest.mark.skipif("HEADRACE_DATA" not in os.environ, reason="HEADRACE_DATA is not set")
@pytest.mark.parametrize("language", ["bn", "de", "fr", "hi", "sv", "zh"])
def test_real_sentences_keep_their_words_and_clusters(language: str) -> None:
    path = Path(os.environ["HEADRACE_DATA"]) / "multiconer_v2" / f"{language}_dev.conll"
    lines = path.read_text(encoding="utf-8").splitlines()
    words = [line.split(" ")[0] for line in lines if line and not line.startswith("# id")]
    noise = Noise(typing=0.05, ocr=0.02)
    noisy = noise.of_sample(random.Random(1), language).words(words)
    assert len(noisy) == len(words) > 5_000
    changed = [(a, b) for a, b in zip(words, noisy, strict=True) if a != b]
    assert 0.02 < len(changed) / len(words) < 0.4
    for before, after in changed:
        assert len(after.split()) == 1
        assert set(marks(after)) <= set(marks(before))
