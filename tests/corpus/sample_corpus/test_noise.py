from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.corpus.sample_corpus import LANGUAGES, generate
from headrace.corpus.sample_corpus.noise import corrupt


def without_letters(token: str) -> str:
    return "".join(c for c in token if not unicodedata.category(c).startswith("L"))


def test_noise_changes_letters_only_and_keeps_tokens_tags_and_ids(corpus):
    noisy = 0
    for dirty, clean in zip(corpus["validation"], corpus["clean validation"], strict=True):
        assert (dirty.id, dirty.tags) == (clean.id, clean.tags)
        assert len(dirty.tokens) == len(clean.tokens)
        assert dirty.subset == ("clean" if dirty.tokens == clean.tokens else "noisy")
        noisy += dirty.subset == "noisy"
        for changed, original in zip(dirty.tokens, clean.tokens, strict=True):
            assert changed
            assert without_letters(changed) == without_letters(original)
    assert 0.15 < noisy / len(corpus["validation"]) < 0.4


def test_a_larger_share_keeps_the_noisy_sentences_of_a_smaller_one():
    few = list(generate("uk", "test", 200, 9, noisy_share=0.2))
    many = list(generate("uk", "test", 200, 9, noisy_share=0.6))
    for sentence, same in zip(few, many, strict=True):
        if sentence.subset == "noisy":
            assert sentence == same
    assert all(s.subset == "clean" for s in generate("uk", "test", 200, 9))


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=40, deadline=None)
@given(
    tokens=st.lists(
        st.text(
            st.characters(exclude_categories=("Zs", "Zl", "Zp", "Cc", "Cs")), min_size=1, max_size=9
        ),
        max_size=8,
    ),
    seed=st.integers(0, 2**32),
)
def test_any_text_keeps_its_token_count_and_its_other_characters(language, tokens, seed):
    result = corrupt(tokens, language, random.Random(seed), rate=1.0)
    assert len(result) == len(tokens)
    for changed, original in zip(result, tokens, strict=True):
        assert changed
        assert without_letters(changed) == without_letters(original)


def test_rate_sets_how_many_words_change():
    words = ("kestrel", "harbour", "meadow", "lantern") * 500
    changed = corrupt(words, "en", random.Random(4), rate=0.1)
    share = sum(a != b for a, b in zip(words, changed, strict=True)) / len(words)
    assert 0.05 < share < 0.12


def test_neighbouring_keys_follow_the_layout_of_the_language():
    def replacements(language, letter):
        source = random.Random(0)
        results = {corrupt((letter,), language, source, rate=1.0)[0] for _ in range(2000)}
        return {text for text in results if len(text) == 1}

    assert {"a", "z"} & replacements("de", "t") == {"z"}
    assert "y" in replacements("en", "t")
    assert {"q", "z"} <= replacements("fr", "a") - replacements("en", "m")
    assert "ц" in replacements("uk", "й")
