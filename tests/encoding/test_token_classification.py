from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.encoding.report import SentenceReport
from headrace.encoding.task_encoder import MAXIMUM_NAMES
from headrace.encoding.token_classification import (
    IGNORED,
    TokenClassificationEncoder,
    entity_words,
)
from headrace.shards import Sample
from headrace.shards.sample import make_sample
from headrace.tasks.labels import LabelSet, load_label_set

TAGS = ("O", "B-River", "I-River", "B-Mill", "I-Mill")


def sample(key: str, words: list[str], tags: list[str], **more: Any) -> Sample:
    return make_sample(key, " ".join(words), {"tokens": words, "tags": tags, **more})


def nothing(_: int) -> None:
    return None


def test_labels_lie_on_the_first_piece_of_each_word(bert: Any, label_set: LabelSet) -> None:
    encoder = TokenClassificationEncoder(bert, label_set, 16)
    samples = [
        sample(
            "a", ["old", "waterwheels", "\u200b", "Rhine"], ["O", "B-Mill", "I-Mill", "B-River"]
        ),
        sample("b", [], [], subset="noisy"),
    ]
    encoded = encoder.encode(samples, "x.tar", nothing)
    assert encoded is not None
    arrays = encoded.arrays
    tokens = bert.convert_ids_to_tokens(arrays["tokens"].tolist())
    assert tokens == ["[CLS]", "old", "water", "##wheel", "##s", "rhine", "[SEP]", "[CLS]", "[SEP]"]
    no = IGNORED
    assert arrays["labels"].tolist() == [no, 0, 3, no, no, 1, no, no, no]
    assert arrays["word_tags"].tolist() == [0, 3, 4, 1]
    assert arrays["word_positions"].tolist() == [1, 2, -1, 5]
    assert arrays["label_counts"].tolist() == [3, 0]
    assert arrays["subsets"].tolist() == [0, 1]
    assert encoded.subsets == ("noisy",)
    assert {name: array.dtype for name, array in arrays.items()} == encoder.array_types
    assert encoded.report == SentenceReport(
        sentences=2, words=4, tokens=9, words_without_pieces=1, entities=2, entities_cut=1
    )


def test_what_is_cut_off_is_counted(bert: Any, label_set: LabelSet) -> None:
    words = ["the", "mill", "and", "the", "river"]
    tags = ["B-Mill", "I-Mill", "O", "B-River", "I-River"]
    reports = {}
    for max_length in (7, 6, 5, 4, 3):
        encoder = TokenClassificationEncoder(bert, label_set, max_length)
        encoded = encoder.encode([sample("a", words, tags)], "x.tar", nothing)
        assert encoded is not None
        report = encoded.report
        reports[max_length] = (report.words_truncated, report.entities_cut, report.entities_lost)
        assert report.sentences_truncated == (max_length < 7)
        assert encoded.arrays["label_counts"].tolist() == [5 - report.words_truncated]
        assert report.is_complete is (max_length == 7)
    assert reports == {7: (0, 0, 0), 6: (1, 1, 0), 5: (2, 0, 1), 4: (3, 0, 1), 3: (4, 1, 1)}


def entities_by_definition(tags: list[str]) -> list[list[int]]:
    """Entities of one sentence as lists of word numbers, read off word by word."""
    entities: list[list[int]] = []
    open_type = None
    for number, tag in enumerate(tags):
        if tag == "O":
            open_type = None
            continue
        prefix, type_ = tag.split("-")
        if prefix == "B" or type_ != open_type:
            entities.append([])
        entities[-1].append(number)
        open_type = type_
    return entities


@given(
    sentences=st.lists(
        st.lists(st.tuples(st.sampled_from(TAGS), st.booleans()), max_size=8), max_size=5
    )
)
def test_entities_are_counted_by_their_words(sentences: list[list[tuple[str, bool]]]) -> None:
    label_set = LabelSet("t", ("River", "Mill"), {"River": "L", "Mill": "L"})
    assert label_set.tags == TAGS
    expected = [
        (len(entity), sum(sentence[number][1] for number in entity))
        for sentence in sentences
        for entity in entities_by_definition([tag for tag, _ in sentence])
    ]
    flat = [pair for sentence in sentences for pair in sentence]
    words, kept = entity_words(
        np.array([TAGS.index(tag) for tag, _ in flat], dtype=np.int16),
        np.cumsum([0, *map(len, sentences)]),
        np.array([is_kept for _, is_kept in flat], dtype=bool),
        np.array([tag.startswith("B-") for tag in TAGS]),
        np.array([-1, 0, 0, 1, 1]),
    )
    assert list(zip(words.tolist(), kept.tolist(), strict=True)) == expected


def test_all_problems_are_gathered(tokenizer: Any, label_set: LabelSet) -> None:
    encoder = TokenClassificationEncoder(tokenizer, label_set, 16)
    good = sample("good", ["river"], ["B-River"])
    bad = [
        sample("a", ["x", "y"], ["B-Rivr", "O"]),
        sample("b", ["x", "y"], ["B-Rivr", "PER"]),
        sample("c", ["x", "y"], ["O"]),
        make_sample("d", "text alone", {}),
        sample("e", ["x"], ["O"], subset=3),
        Sample("f", {"json": b"{", "txt": b"x"}),
        Sample("g", {"json": b'{"tokens":["\\ud800"],"tags":["O"]}', "txt": b"x"}),
        Sample("h", {"json": json.dumps({"tokens": [1], "tags": ["O"]}).encode()}),
    ]
    assert encoder.encode([good], "one.tar", nothing) is not None
    assert encoder.encode([good, *bad[:4]], "two.tar", nothing) is None
    assert encoder.encode([*bad[4:], bad[0]], "three.tar", nothing) is None
    texts = [str(problem) for problem in encoder.problems]
    assert len(texts) == 8
    for key in "cdefgh":
        assert sum(f"sample {key}:" in text for text in texts) == 1, key
    (rivr,) = [text for text in texts if "B-Rivr" in text]
    assert "two.tar sample a (and 2 more words)" in rivr
    assert "Did you mean B-River?" in rivr
    (unknown,) = [text for text in texts if "PER" in text]
    assert "two.tar sample b:" in unknown
    assert encoder.encode([good], "four.tar", nothing) is None


def test_too_many_subsets_are_an_error(tokenizer: Any, label_set: LabelSet) -> None:
    def encode(count: int) -> Any:
        encoder = TokenClassificationEncoder(tokenizer, label_set, 16)
        samples = [sample(f"s{i}", ["x"], ["O"], subset=f"subset {i}") for i in range(count)]
        return encoder.encode(samples, "x.tar", nothing), encoder.problems

    encoded, problems = encode(MAXIMUM_NAMES)
    assert encoded.arrays["subsets"].tolist() == list(range(1, 256))
    assert problems == []
    encoded, problems = encode(MAXIMUM_NAMES + 1)
    assert encoded is None
    assert "255 are the most" in str(problems[0])


def test_progress_counts_every_sample(
    tokenizer: Any,
    label_set: LabelSet,
    tagged: Callable[..., list[Sample]],
    make_words: Callable[..., list[list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace.encoding.token_classification.SAMPLES_AT_ONCE", 3)
    samples = tagged(make_words("bn", 8))
    steps: list[int] = []
    parts = TokenClassificationEncoder(tokenizer, label_set, 20).encode(
        samples, "x.tar", steps.append
    )
    assert steps == [3, 3, 2]
    monkeypatch.undo()
    whole = TokenClassificationEncoder(tokenizer, label_set, 20).encode(samples, "x.tar", nothing)
    assert parts is not None
    assert whole is not None
    for name, array in whole.arrays.items():
        assert np.array_equal(array, parts.arrays[name]), name
    assert parts.report == whole.report


def test_a_large_vocabulary_takes_four_bytes(bert: Any, tokenizer: Any) -> None:
    label_set = load_label_set("conll2003")
    assert TokenClassificationEncoder(bert, label_set, 8).array_types["tokens"] == np.uint16

    class Large:
        backend_tokenizer = tokenizer.backend_tokenizer

        def __len__(self) -> int:
            return 2**16 + 1

    assert TokenClassificationEncoder(Large(), label_set, 8).array_types["tokens"] == np.uint32
