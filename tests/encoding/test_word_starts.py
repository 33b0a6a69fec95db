"""Where words begin: in texts of many scripts, and in the tokens of each kind of tokenizer."""

from __future__ import annotations

import itertools
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.encoding.word_starts import (
    code_points,
    word_starts_of_text,
    word_starts_of_tokens,
)


def words_of(text: str) -> list[str]:
    """The words of a text, cut where they begin and stripped of the spaces behind them."""
    starts = word_starts_of_text(code_points(text))
    places = [*np.flatnonzero(starts).tolist(), len(text)]
    return [text[start:end].rstrip() for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, it's 3.5%!", ["Don't", "stop", ",", "it's", "3", ".", "5", "%", "!"]),
        ("'so' rock'n'roll e\u0301te\u0301", ["'", "so", "'", "rock'n'roll", "e\u0301te\u0301"]),
        ("नदी में पानी है।", ["नदी", "में", "पानी", "है", "।"]),
        ("می\u200cخواهم بروم", ["می\u200cخواهم", "بروم"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("東京タワーは3階", [*"東京タワーは", "3", "階"]),
        ("น้ำตก กว้าง", ["น้", "ำ", "ต", "ก", "ก", "ว้", "า", "ง"]),
        ("ok河水 mill", ["ok", "河", "水", "mill"]),
        (" \t two\u00a0words\u3000", ["two", "words"]),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@given(st.text(max_size=40))
def test_every_word_has_a_character_and_no_space_inside(text: str) -> None:
    for word in words_of(text):
        assert word
        assert not unicodedata.category(word[0]).startswith("Z")


@pytest.fixture(params=["tokenizer", "bert", "roberta"])
def backend(request: pytest.FixtureRequest) -> Any:
    """SentencePiece with bytes for what it does not know, WordPiece, and byte-level BPE."""
    return request.getfixturevalue(request.param).backend_tokenizer


def words_of_tokens(backend: Any, text: str) -> list[list[int]]:
    """Tokens of each word, as the characters that they begin at."""
    encoding = backend.encode(text, add_special_tokens=False)
    codes = code_points(text)
    starts, first = word_starts_of_tokens(codes, word_starts_of_text(codes), encoding.offsets)
    assert len(starts) == len(first) == len(encoding.ids)
    groups: list[list[int]] = []
    for start, place in zip(starts.tolist(), first.tolist(), strict=True):
        if start:
            groups.append([])
        groups[-1].append(place)
    return groups


@pytest.mark.parametrize(
    "text",
    [
        "The wheel turns, and don't stop: 27 stones!",
        "Köln über die Mühle",
        "नदी पहाड़ से पानी",
        "می\u200cآورد و چرخ",
    ],
)
def test_tokens_of_a_word_are_together_whatever_the_tokenizer(backend: Any, text: str) -> None:
    """As many groups as words, each of them with the characters of its word."""
    codes = code_points(text)
    places = np.flatnonzero(word_starts_of_text(codes)).tolist()
    groups = words_of_tokens(backend, text)
    assert len(groups) == len(places)
    edges = [*places[1:], len(text)]
    for group, start, end in zip(groups, places, edges, strict=True):
        # a token may begin with the space before its word
        assert all(start - 1 <= place < end for place in group)


@pytest.mark.parametrize("name", ["tokenizer", "roberta"])
def test_bytes_of_a_character_are_one_word(request: pytest.FixtureRequest, name: str) -> None:
    backend = request.getfixturevalue(name).backend_tokenizer
    text = "a 😀 b"
    groups = words_of_tokens(backend, text)
    assert len(groups) == 3
    assert len(groups[1]) >= 4


def test_a_token_of_several_characters_without_spaces_is_a_word(tokenizer: Any) -> None:
    backend = tokenizer.backend_tokenizer
    text = "河水推动水车"
    groups = words_of_tokens(backend, text)
    tokens = backend.encode(text, add_special_tokens=False)
    blanks = sum(token.strip("▁") == "" for token in tokens.tokens)
    assert len(groups) == len(tokens.ids) - blanks


@given(st.text(st.sampled_from("ab'é 河น้😀.\u0301\u200d\n"), max_size=30))
def test_tokens_of_any_text_are_grouped(roberta: Any, tokenizer: Any, text: str) -> None:
    for one in (roberta, tokenizer):
        groups = words_of_tokens(one.backend_tokenizer, text)
        flat = [place for group in groups for place in group]
        assert flat == sorted(flat)
        assert all(groups)
