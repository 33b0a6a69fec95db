from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from headrace.tasks.spans import lenient_spans, strict_spans, tags_of_spans

TAGS = ["O", "B-x", "I-x", "B-y", "I-y", "B-Medication/Vaccine", "I-Medication/Vaccine", "B-x-y"]
sentences = st.lists(st.sampled_from(TAGS), max_size=12)


@settings(deadline=None)
@given(sentences)
def test_strict_spans_are_those_of_seqeval_in_strict_mode(tags: list[str]) -> None:
    entities = Entities([tags], IOB2).entities[0]
    expected = [(entity.start, entity.end, entity.tag) for entity in entities]
    assert strict_spans(tags) == expected


@settings(deadline=None)
@given(sentences)
def test_lenient_spans_are_those_of_seqeval_in_default_mode(tags: list[str]) -> None:
    # seqeval takes a tag to pieces at its last hyphen here, at its first one in strict mode.
    tags = [tag.replace("x-y", "z") for tag in tags]
    expected = [(start, last + 1, type_) for type_, start, last in get_entities(tags)]
    assert lenient_spans(tags) == expected


@settings(deadline=None)
@given(sentences)
def test_both_rules_read_the_same_spans_from_tags_made_of_spans(tags: list[str]) -> None:
    for spans in (strict_spans(tags), lenient_spans(tags)):
        well_formed = tags_of_spans(spans, len(tags))
        assert len(well_formed) == len(tags)
        assert strict_spans(well_formed) == lenient_spans(well_formed) == spans


@pytest.mark.parametrize(
    ("tags", "strict", "lenient"),
    [
        ("", [], []),
        ("B-x I-x", [(0, 2, "x")], [(0, 2, "x")]),
        ("B-x B-x", [(0, 1, "x"), (1, 2, "x")], [(0, 1, "x"), (1, 2, "x")]),
        ("O I-x I-x", [], [(1, 3, "x")]),
        ("B-x I-y I-x", [(0, 1, "x")], [(0, 1, "x"), (1, 2, "y"), (2, 3, "x")]),
        ("I-x B-x I-x", [(1, 3, "x")], [(0, 1, "x"), (1, 3, "x")]),
    ],
)
def test_rules_on_small_cases(
    tags: str, strict: list[tuple[int, int, str]], lenient: list[tuple[int, int, str]]
) -> None:
    assert strict_spans(tags.split()) == strict
    assert lenient_spans(tags.split()) == lenient
