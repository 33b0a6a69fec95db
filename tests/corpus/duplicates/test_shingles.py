"""Shingles are the sets that they are said to be; agreement with sets of strings."""

import re
import unicodedata

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.corpus.duplicates.settings import NearSettings
from headrace.corpus.duplicates.shingles import shingles

WORDS = NearSettings(unit="words", words=3)
CHARACTERS = NearSettings(unit="characters", characters=4)
TEXTS = st.text(
    st.sampled_from("aAbß éе हि क्षي‌م中文ภา́_1,.!\n\t \u3000") | st.characters(), max_size=60
)


def word_set(text, length):
    words = regex.findall(r"\w+", text.casefold())
    if not words:
        return character_set(text, NearSettings().characters)
    length = min(length, len(words))
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def character_set(text, length):
    folded = regex.sub(r"\s+", " ", text.casefold()).strip(" ")
    length = min(length, len(folded))
    return {folded[i : i + length] for i in range(len(folded) - length + 1)} if folded else set()


def jaccard(a, b):
    return len(a & b) / len(a | b) if a or b else 1.0


def hashed(text, config):
    return set(shingles(text, config).tolist())


@settings(max_examples=300, deadline=None)
@given(a=TEXTS, b=TEXTS)
def test_sets_have_the_sizes_and_the_overlap_of_sets_of_strings(a, b):
    both = f"{a} {b} {a}"
    for config, strings in ((WORDS, word_set), (CHARACTERS, character_set)):
        length = config.words if config is WORDS else config.characters
        for one in (a, b, both):
            if config is WORDS and not regex.search(r"\w", one):
                continue  # cut into characters: its own test
            assert len(hashed(one, config)) == len(strings(one, length))
        if config is CHARACTERS or all(regex.search(r"\w", one) for one in (a, b)):
            expected = jaccard(strings(a, length), strings(both, length))
            assert jaccard(hashed(a, config), hashed(both, config)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "by_words"),
    [
        ("The quick brown fox jumps over the lazy dog", True),
        ("หลวงพ่อคูณเป็นพระสงฆ์ที่มีชื่อเสียง", False),
        ("ຄົນທຸກຄົນເກີດມາມີສິດ", False),
        ("មនុស្សទាំងអស់កើតមកមានសេរីភាព", False),
        ("လူတိုင်းသည် တူညီလွတ်လပ်သော", False),
        ("人人生而自由，在尊严和权利上一律平等。", False),
        ("すべての人間は、生まれながらにして自由であり", False),
        ("모든 인간은 태어날 때부터 자유로우며", True),
        ("सभी मनुष्यों को गौरव और अधिकारों के मामले में", True),
        ("TCP/IP 和 HTTP 协议 are used by most of the servers in the network", True),
        ("中文文本里有一个英文词 word 而已，其余都是中文。", False),
    ],
)
def test_the_script_decides_what_is_counted(text, by_words):
    alike = WORDS if by_words else CHARACTERS
    chosen = NearSettings(words=3, characters=4)
    assert np.array_equal(shingles(text, chosen), shingles(text, alike))
    other = CHARACTERS if by_words else WORDS
    assert not np.array_equal(shingles(text, chosen), shingles(text, other))


def test_vowel_signs_belong_to_their_words():
    """The standard library's \\w breaks Hindi words at each of them."""
    text = "हिन्दी में किताब"
    assert len(re.findall(r"\w+", text)) > 3
    assert len(shingles(text, NearSettings(unit="words", words=1))) == 3


def test_case_spaces_and_punctuation_make_no_difference_to_words():
    a = "Straße  und\nHaus, und GARTEN!"
    assert hashed(a, WORDS) == hashed("strasse und haus und garten", WORDS)
    assert hashed("a  b\n", CHARACTERS) == hashed("A b", CHARACTERS)


def test_short_and_empty_texts():
    assert len(shingles("one two", WORDS)) == 1
    assert hashed("one two", WORDS) != hashed("one three", WORDS)
    assert len(shingles(" \n\t\u3000", WORDS)) == 0
    assert len(shingles("", CHARACTERS)) == 0
    assert hashed("!!! ???", WORDS) == hashed("!!! ???", NearSettings(unit="characters"))
    assert hashed("!!!", WORDS) != hashed("???", WORDS)


@given(text=st.text(st.characters(codec=None), max_size=40) | st.just("\ud800 a \udfff"))
def test_no_text_is_refused(text):
    for config in (NearSettings(), WORDS, CHARACTERS):
        assert shingles(text, config).dtype == np.uint64


def test_word_order_counts_within_a_shingle():
    assert hashed("a b c d e f", WORDS) != hashed("f e d c b a", WORDS)
    composed = unicodedata.normalize("NFC", "é a b c")
    assert hashed(composed, WORDS) == hashed("É A B C", WORDS)
