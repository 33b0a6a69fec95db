"""Words of scripts with and without spaces."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.selection.words import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World! x_1", ["hello", "world", "x_1"]),
        ("दिल्ली भारत की", ["दिल्ली", "भारत", "की"]),  # vowel signs are marks, not letters
        ("كتابٌ جديد", ["كتابٌ", "جديد"]),
        ("北京天安门。2024年", ["北京", "京天", "天安", "安门", "2024", "年"]),
        ("カレーを食べる", ["カレ", "レー", "ーを", "を食", "食べ", "べる"]),
        ("สวัสดี", ["สวั", "วัส", "สดี"]),
        ("abc漢字def が", ["abc", "漢字", "def", "が"]),
        ("?! :)", ["?", "!", ":", ")"]),
        (" \n ", []),
        ("", []),
    ],
)
def test_words(text, words):
    assert words_of(text) == words


@given(st.text())
def test_every_text_but_white_space_has_words_without_white_space(text):
    words = words_of(text)
    assert all(word and word.split() == [word] for word in words)
    assert bool(words) == bool(text.strip())
    assert words == words_of(unicodedata.normalize("NFD", text))
