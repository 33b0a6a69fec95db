from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.corpus.typos import with_typos

SENTENCES = {
    "en": "The lamp, which Ines had bought in 1998, went out.",
    "hi": "दीपक बुझ गया और इनेस अँधेरे में बैठी रही।",
    "ta": "விளக்கு அணைந்தது, அவள் இருளில் அமர்ந்தாள்",
    "zh": "灯灭了，她坐在黑暗里。",
    "ar": "انطفأ المصباح وجلست في الظلام",
}


@given(text=st.text(max_size=60), rate=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_words_stay_and_no_character_is_new(text: str, rate: float, seed: int) -> None:
    changed = with_typos(text, rate, random.Random(seed))
    assert len(changed.split()) == len(text.split())
    assert set(changed) <= set(text)
    assert [c for c in changed if not c.isalpha() and c.isspace()] == [
        c for c in text if c.isspace()
    ]


@pytest.mark.parametrize("language", SENTENCES)
def test_an_error_at_about_that_share_of_the_letters_of_any_script(language: str) -> None:
    text = SENTENCES[language]
    source = random.Random(1)
    assert with_typos(text, 0.0, source) == text
    changed = [with_typos(text, 0.05, source) for _ in range(1000)]
    letters = sum(c.isalpha() for c in text)
    # some errors show nothing: a lone letter is not lost, and a replacement may be the same letter
    assert 0.95**letters - 0.05 < changed.count(text) / 1000 < 0.95**letters + 0.12
    digits = [c for c in text if c.isdigit()]
    assert all([c for c in one if c.isdigit()] == digits for one in changed)


def test_marks_stay_with_their_letter() -> None:
    text = "कि की कु"
    for seed in range(50):
        for word in with_typos(text, 0.8, random.Random(seed)).split():
            assert word[0] == "क"


def test_the_same_seed_makes_the_same_errors() -> None:
    text = SENTENCES["en"]
    assert with_typos(text, 0.3, random.Random(5)) == with_typos(text, 0.3, random.Random(5))
    assert with_typos(text, 0.3, random.Random(5)) != with_typos(text, 0.3, random.Random(6))
