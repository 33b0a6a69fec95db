from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections import Counter, defaultdict
from itertools import islice

import pytest

from headrace.corpus.sample_corpus import ENTITY_TYPES, LANGUAGES, SPLITS, generate
from headrace.errors import CorpusError

SCRIPTS = {
    "bn": ("\u0980", "\u09ff"),
    "fa": ("\u0600", "\u06ff"),
    "hi": ("\u0900", "\u097f"),
    "uk": ("\u0400", "\u04ff"),
    "zh": ("\u4e00", "\u9fff"),
}


def test_tags_are_iob2_and_as_long_as_the_tokens(corpus):
    for sentence in corpus["train"] + corpus["validation"]:
        assert len(sentence.tokens) == len(sentence.tags) > 0
        before = "O"
        for tag in sentence.tags:
            if tag.startswith("I-"):
                assert before[2:] == tag[2:], sentence
            assert tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:] in ENTITY_TYPES)
            before = tag


def test_tokens_are_what_a_conll_line_can_hold(corpus):
    for sentence in corpus["train"] + corpus["validation"]:
        for token in sentence.tokens:
            assert token
            assert not any(character.isspace() for character in token)
            assert not set(token) & set("{}[]|"), sentence


def test_every_type_is_in_a_small_corpus(corpus, mentions):
    for split in ("train", "validation"):
        counts = Counter(entity_type for entity_type, _ in mentions(corpus[split][:200]))
        assert sorted(counts) == sorted(ENTITY_TYPES)
        assert min(counts.values()) >= 3
    assert any(set(sentence.tags) == {"O"} for sentence in corpus["train"])


def test_text_is_lower_case_and_in_the_script_of_its_language(corpus):
    language = corpus["train"][0].language
    text = "".join("".join(sentence.tokens) for sentence in corpus["train"])
    assert text == text.lower()
    if language in SCRIPTS:
        first, last = SCRIPTS[language]
        letters = [character for character in text if character.isalpha()]
        assert sum(first <= letter <= last for letter in letters) / len(letters) > 0.98
    if language == "zh":
        assert all(len(token) == 1 for sentence in corpus["train"] for token in sentence.tokens)


def test_validation_names_are_partly_unseen_in_training(corpus, mentions):
    trained = {name for _, name in mentions(corpus["train"])}
    validation = [name for _, name in mentions(corpus["clean validation"])]
    unseen = sum(name not in trained for name in validation) / len(validation)
    assert 0.4 < unseen < 0.85


def test_held_out_names_never_occur_in_training_whatever_the_size(corpus, mentions):
    from headrace.corpus.sample_corpus.gazetteer import HELD_OUT_SHARE
    from headrace.corpus.sample_corpus.randomness import fraction

    language = corpus["train"][0].language

    def held_out_share(names):
        held = [fraction("held out", language, *name) < HELD_OUT_SHARE for name in names]
        return sum(held) / len(held)

    assert held_out_share([name for _, name in mentions(corpus["train"])]) == 0
    validation = [name for _, name in mentions(corpus["clean validation"])]
    assert held_out_share(validation) == pytest.approx(0.4, abs=0.05)


def test_names_are_ambiguous_and_only_context_decides(corpus, mentions):
    types_of: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for entity_type, name in mentions(corpus["train"]):
        types_of[name][entity_type] += 1
    known = [
        (entity_type, types_of[name])
        for entity_type, name in mentions(corpus["clean validation"])
        if name in types_of
    ]
    ambiguous = sum(len(types) > 1 for _, types in known) / len(known)
    assert ambiguous > 0.2
    # A lexicon that answers with the most frequent type of a name it knows is often wrong.
    right = sum(types.most_common(1)[0][0] == gold for gold, types in known) / len(known)
    assert 0.4 < right < 0.85


def test_the_same_arguments_give_the_same_sentences(corpus):
    language = corpus["train"][0].language
    assert list(generate(language, "train", 2000, 17)) == corpus["train"]
    assert list(generate(language, "train", 300, 17)) == corpus["train"][:300]
    assert list(generate(language, "train", 300, 18)) != corpus["train"][:300]


def test_splits_seeds_and_languages_share_no_sentence_id():
    sentences = [
        sentence
        for language in LANGUAGES
        for split in SPLITS
        for seed in (1, 2)
        for sentence in generate(language, split, 20, seed)
    ]
    assert len({sentence.id for sentence in sentences}) == len(sentences)
    assert all(str(uuid.UUID(sentence.id)) == sentence.id for sentence in sentences)


def test_the_hash_seed_of_the_interpreter_changes_nothing():
    script = (
        "from headrace.corpus.sample_corpus import generate\n"
        "for s in generate('hi', 'validation', 60, 5, noisy_share=0.5): print(ascii(s))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


def test_sentences_are_made_on_demand():
    sentences = generate("en", "train", 10**12, 3)
    assert len(list(islice(sentences, 5))) == 5


def test_every_wrong_argument_is_named_at_once():
    with pytest.raises(CorpusError) as caught:
        generate("xx", "dev", -1, 0, noisy_share=1.5)
    where = [problem.where for problem in caught.value.problems]
    assert where == ["language", "split", "sentences", "noisy_share"]
