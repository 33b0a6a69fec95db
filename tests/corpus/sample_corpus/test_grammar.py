from __future__ import annotations

import unicodedata

import pytest

from headrace.corpus.sample_corpus import ENTITY_TYPES, LANGUAGES
from headrace.corpus.sample_corpus.entity_types import NAME_FAMILIES
from headrace.corpus.sample_corpus.gazetteer import load_gazetteer
from headrace.corpus.sample_corpus.grammar import (
    NUMBER_SLOTS,
    Slot,
    load_grammar,
    parse_pattern,
)


def slots(patterns):
    return [part.name for pattern in patterns for part in pattern if isinstance(part, Slot)]


def test_patterns_are_split_into_slots_and_choices():
    assert parse_pattern("{Artist} [sang|wrote] it") == (
        Slot("Artist"),
        (" ",),
        ("sang", "wrote"),
        (" it",),
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_slot_can_be_filled_and_every_list_is_used(language):
    grammar = load_grammar(language)
    in_names = slots(pattern for patterns in grammar.names.values() for pattern in patterns)
    in_text = slots(grammar.templates + grammar.openers + grammar.closers)
    assert set(in_names) <= {*grammar.lists, *NUMBER_SLOTS}
    assert set(in_text) <= {*grammar.lists, *NUMBER_SLOTS, *ENTITY_TYPES}
    assert set(grammar.lists) <= {*in_names, *in_text}
    families = {family for choices in NAME_FAMILIES.values() for family, _ in choices}
    assert set(grammar.names) == families
    for name, items in grammar.lists.items():
        assert len(items) == len(set(items)), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_type_has_two_templates_and_thousands_of_names(language):
    in_templates = slots(load_grammar(language).templates)
    gazetteer = load_gazetteer(language)
    for entity_type in ENTITY_TYPES:
        assert in_templates.count(entity_type) >= 2, entity_type
        assert len(gazetteer.names(entity_type)) >= 2000, entity_type


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "zh"])
def test_names_stand_apart_from_the_words_around_them(language):
    for pattern in load_grammar(language).templates:
        for number, part in enumerate(pattern):
            if not (isinstance(part, Slot) and part.name in ENTITY_TYPES):
                continue
            for neighbour, edge in ((number - 1, -1), (number + 1, 0)):
                if 0 <= neighbour < len(pattern):
                    text = pattern[neighbour]
                    assert not isinstance(text, Slot), pattern
                    assert all(choice[edge] == " " for choice in text), pattern


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_data_is_in_composed_unicode_form(language):
    grammar = load_grammar(language)
    for items in grammar.lists.values():
        for item in items:
            assert unicodedata.normalize("NFC", item) == item


@pytest.mark.parametrize("entity_type", ENTITY_TYPES)
def test_the_shares_of_the_families_of_a_type_add_up(entity_type):
    assert sum(share for _, share in NAME_FAMILIES[entity_type]) == pytest.approx(1.0)
