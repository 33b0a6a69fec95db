from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.tasks.lexicon import Lexicon
from headrace.tasks.spans import strict_spans

TRAINING = [
    ("she left new york today", "O O B-City I-City O"),
    ("new york times", "B-Paper I-Paper I-Paper"),
    ("york has walls", "B-City O O"),
    ("paris and paris hilton", "B-City O B-Person I-Person"),
    ("paris sang", "B-Person O"),
]


def lexicon(lower_case: bool = False) -> Lexicon:
    pairs = [(tokens.split(), tags.split()) for tokens, tags in TRAINING]
    return Lexicon.from_sentences(pairs, lower_case=lower_case)


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ("", ""),
        ("nothing known", "O O"),
        ("new york times", "B-Paper I-Paper I-Paper"),
        ("new york has york", "B-City I-City O B-City"),
        ("new york new york times", "B-City I-City B-Paper I-Paper I-Paper"),
        # Begins like an entity and ends before it is one.
        ("new", "O"),
        ("york times", "B-City O"),
        # City and Person are equally frequent for "paris": the first by name.
        ("paris", "B-City"),
        ("paris hilton", "B-Person I-Person"),
        ("New York", "O O"),
    ],
)
def test_longest_match_from_left_to_right(tokens: str, tags: str) -> None:
    assert lexicon().tag(tokens.split()) == tags.split()


def test_lower_case_matches_any_case_and_adds_up_the_counts() -> None:
    assert lexicon(lower_case=True).tag(["New", "YORK"]) == ["B-City", "I-City"]
    pairs = [(["Us"], ["B-Paper"]), (["US"], ["B-City"]), (["us"], ["B-City"])]
    assert Lexicon.from_sentences(pairs, lower_case=True).tag(["uS"]) == ["B-City"]
    assert Lexicon.from_sentences(pairs).tag(["Us"]) == ["B-Paper"]


def test_most_frequent_type_wins() -> None:
    pairs = [(["jordan"], [tag]) for tag in ("B-Person", "B-Country", "B-Person")]
    assert Lexicon.from_sentences(pairs).tag(["jordan"]) == ["B-Person"]


words = st.lists(st.sampled_from("abc"), min_size=1, max_size=8)


@settings(deadline=None)
@given(
    st.dictionaries(words.map(tuple), st.just({"x": 1}), min_size=1, max_size=6),
    words,
)
def test_tags_are_a_greedy_segmentation(
    counts: dict[tuple[str, ...], dict[str, int]], tokens: list[str]
) -> None:
    tags = Lexicon(counts).tag(tokens)
    assert len(tags) == len(tokens)
    spans = {span.start: span.end for span in strict_spans(tags)}
    position = 0
    while position < len(tokens):
        ends = [
            position + len(entry)
            for entry in counts
            if tuple(tokens[position : position + len(entry)]) == entry
        ]
        assert spans.pop(position, None) == (max(ends) if ends else None)
        position = max(ends, default=position + 1)
    assert not spans
