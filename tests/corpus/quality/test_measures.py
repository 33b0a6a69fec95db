"""Measures of quality: against independent counts, by example, and on any text."""

import math
import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.corpus.languages import main_script
from headrace.corpus.quality import MEASURES, measure
from headrace.corpus.quality.repetition import Runs, repeated
from headrace.corpus.quality.stop_words import stop_words

words = st.lists(st.sampled_from(["a", "be", "see", "down", "water"]), max_size=40)


def share_of_commonest(words, length):
    """As Rae et al. have it, by looking at every run."""
    runs = [tuple(words[at : at + length]) for at in range(len(words) - length + 1)]
    counts = Counter(runs)
    times = max(counts.values(), default=0)
    if times < 2:
        return 0.0
    longest = max(len("".join(run)) for run in counts if counts[run] == times)
    return min(longest * times / len("".join(words)), 1.0)


def share_of_repeated(words, length):
    """Each word that is in a run which occurred before, looked at one by one."""
    inside = set()
    for at in range(len(words) - length + 1):
        run = words[at : at + length]
        if any(words[before : before + length] == run for before in range(at)):
            inside |= set(range(at, at + length))
    return sum(len(words[at]) for at in inside) / max(len("".join(words)), 1)


@given(words)
def test_runs_of_words_are_counted_as_by_hand(words):
    runs = Runs.of_words(words)
    for length in (2, 3, 4):
        assert runs.commonest(length) == pytest.approx(share_of_commonest(words, length))
    for length in (5, 10):
        assert runs.repeated(length) == pytest.approx(share_of_repeated(words, length))


@given(st.text(st.sampled_from("中文字"), max_size=40))
def test_runs_of_characters_are_those_of_words_of_one_character(text):
    runs = Runs.of_characters(text)
    assert runs.commonest(2) == pytest.approx(share_of_commonest(list(text), 2))
    assert runs.repeated(5) == pytest.approx(share_of_repeated(list(text), 5))


def test_codes_of_runs_do_not_collide():
    generator = np.random.default_rng(7)
    numbers = [str(number) for number in generator.permutation(20_000)]
    assert Runs.of_words(numbers).repeated(2) == 0
    assert Runs.of_words(numbers).commonest(2) == 0


def test_repeated_lines():
    assert repeated(["a", "bcd", "bcd", "bcd"]) == (2 / 4, 6 / 10)
    assert repeated([]) == (0.0, 0.0)


@given(st.text(min_size=1, max_size=200), st.sampled_from(["en", "zh", "tlh", "und"]))
def test_any_text_has_finite_measures(text, language):
    found = measure(text, language, main_script(text))
    assert set(found) <= set(MEASURES)
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    shares = [name for name in found if name.endswith(("share", "lines", "_words", "paragraphs"))]
    counts = {"lines", "words", "stop_words"}
    assert all(found[name] <= 1 for name in shares if name not in counts)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=80))
def test_classes_of_characters_are_those_of_unicode(text):
    found = measure(text)
    solid = [one for one in text if not one.isspace()]
    for name, class_ in (("digit_share", "N"), ("punctuation_share", "P"), ("symbol_share", "S")):
        count = sum(unicodedata.category(one)[0] == class_ and one != "\ufffd" for one in solid)
        assert found[name] == pytest.approx(count / max(len(solid), 1), abs=1e-4)


PAGE = """Title of the page

- "Is it here?" she asked.
- No, it was not; and that is 2 days ago...
What #1 said is what it was: {x} = <b>[y]</b>;
She said: “It is over there!”

She said: “It is over there!”
"""


def test_a_page_by_hand():
    found = measure(PAGE, "en", "Latn")
    assert found["words"] == len(PAGE.split()) == 43
    assert found["mean_word_length"] == pytest.approx(len("".join(PAGE.split())) / 43, abs=1e-4)
    assert found["alphabetic_words"] == pytest.approx(38 / 43, abs=1e-4)  # - - 2 #1 =
    assert found["hashes_per_word"] == pytest.approx(1 / 43, abs=1e-4)
    assert found["ellipses_per_word"] == pytest.approx(1 / 43, abs=1e-4)
    assert (found["lines"], found["longest_line"]) == (6, 46)
    assert found["lines_ending_in_punctuation"] == pytest.approx(4 / 6, abs=1e-4)
    assert found["bullet_lines"] == pytest.approx(2 / 6, abs=1e-4)
    assert found["ellipsis_lines"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["code_lines"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["repeated_lines"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["repeated_paragraphs"] == 0
    assert found["sentences"] == 5
    assert found["question_share"] == pytest.approx(1 / 5)
    assert (found["curly_brackets"], found["lorem_ipsum"]) == (2, 0)
    assert found["stop_words"] == 8  # of the is it was not and that; she is none, nor what


def test_scripts_without_white_space_count_characters():
    found = measure("我们的朋友在哪里？他们的家在北京。", "zh-Hans", "Hans")
    assert found["words"] == found["characters"] == 17
    assert "mean_word_length" not in found
    assert "uppercase_share" not in found
    assert (found["sentences"], found["question_share"]) == (2, 0.5)
    assert found["stop_words"] == 5
    assert "mean_sentence_length" not in measure("สวัสดีครับ", "th", "Thai")


def test_a_language_without_a_list_has_no_measures_of_stop_words():
    assert "stop_words" not in measure("a b", "tlh", "Latn")
    assert "stop_words" in measure("a b", "en", "Latn")


@pytest.mark.parametrize(
    "text", ["." * 300_000 + "x", ")" * 300_000, ".)" * 150_000, "#" * 300_000]
)
def test_hostile_text_takes_no_longer_than_other_text(text):
    """Its patterns are linear; quadratic ones would need hours."""
    assert measure(text * 5, "en", "Latn")["characters"] == 5 * len(text)


DATA = pytest.mark.skipif(
    "HEADRACE_DATA" not in os.environ, reason="needs real corpora: HEADRACE_DATA"
)


@DATA
@pytest.mark.parametrize(
    "language", ["bn", "de", "en", "es", "fa", "fr", "hi", "it", "pt", "sv", "uk", "zh"]
)
def test_lists_of_stop_words_cover_real_text(language):
    path = Path(os.environ["HEADRACE_DATA"]) / "ntrex128" / f"{language}.tsv"
    lines = [line.split("\t")[-1] for line in path.read_text(encoding="utf-8").splitlines()]
    text = "\n".join(lines[::10])
    found = measure(text, language, main_script(text))
    assert found["stop_word_share"] > 0.1
    assert found["stop_words"] >= 0.5 * len(stop_words()[language])
    others = [measure(text, other, main_script(text)) for other in ("sw", "tr", "vi")]
    assert all(other["stop_word_share"] < found["stop_word_share"] / 2 for other in others)


def test_the_report_explains_every_measure():
    from typing import get_args

    from headrace.corpus.quality.measures import Measure
    from headrace.report.quality_terms import QUALITY_TERMS

    assert set(QUALITY_TERMS) == set(get_args(Measure))
