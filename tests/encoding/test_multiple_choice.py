"""Contexts with choices as arrays: against the tokenizer itself, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.encoding.collate import collate_multiple_choice
from headrace.encoding.multiple_choice import MultipleChoiceEncoder, PairEncoder
from headrace.encoding.report import ChoiceReport
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.task_encoder import MOST_PROBLEMS, EncodingSpec
from headrace.encoding.tokenizer import load_tokenizer
from headrace.errors import EncodingError, LabelError
from headrace.shards import Sample, ShardReader

CONTEXT = "The old mill stands by the river, its wheel turns slowly."
SAMPLES: list[dict[str, Any]] = [
    {"context": CONTEXT, "choices": ["It grinds grain.", "It flies."], "label": 0},
    {
        "context": "A long day of rain " * 9,
        "choices": ["The river rises.", "Nothing happens at all.", "Grass", "The mill " * 20],
        "label": 2,
        "question": "effect",
        "subset": "clean",
    },
    {"context": "", "choices": ["", "x"], "label": 1, "question": "cause", "other": [1]},
]


def nothing(done: int) -> None:
    """Progress that nobody looks at."""


def sample_of(content: dict[str, Any], key: str = "s") -> Sample:
    return Sample(key, {"txt": b"text", "json": json.dumps(content).encode()})


@pytest.fixture
def source(
    write_source: Callable[..., ShardReader], bert: Any, tmp_path: Path
) -> Callable[..., EncodedSource]:
    def encode(samples: list[dict[str, Any]], max_length: int = 24) -> EncodedSource:
        made = [sample_of(content, f"s{number}") for number, content in enumerate(samples)]
        reader = write_source(tmp_path / "source", made, samples_per_shard=2, overwrite=True)
        encoder = MultipleChoiceEncoder(bert, max_length)
        return encode_source(reader, encoder, cache_dir=tmp_path / "cache", language="en")

    return encode


@given(
    st.text(st.sampled_from("ab cde.\u05d0é"), max_size=60),
    st.text(st.sampled_from("ab cde."), max_size=30),
    st.integers(5, 24),
)
def test_pairs_are_those_of_the_tokenizer(
    bert: Any, context: str, choice: str, max_length: int
) -> None:
    ((ids, types, *cut),) = PairEncoder(bert, max_length).encode([(context, choice)])
    whole = bert([context], [choice])["input_ids"][0]  # as lists: "" alone would be no second part
    assert len(ids) + sum(cut) == len(whole)
    if len(bert(choice)["input_ids"]) + 1 >= max_length:
        # no context is left: what remains is the choice, cut on the right
        assert ids[:2] == [bert.cls_token_id, bert.sep_token_id]
        own = bert(choice)["input_ids"][1:]
        assert ids[2:] == [*own[: max_length - 3], bert.sep_token_id]
        return
    side, bert.truncation_side = bert.truncation_side, "left"
    expected = bert([context], [choice], truncation="only_first", max_length=max_length)
    bert.truncation_side = side
    assert [ids] == expected["input_ids"]
    assert [types] == expected["token_type_ids"]


def test_special_tokens_cannot_be_written_in_a_text(bert: Any) -> None:
    ((ids, *_),) = PairEncoder(bert, 64).encode([("[SEP] a", "It [SEP] flies")])
    assert ids.count(bert.sep_token_id) == 2


def test_token_types_are_those_that_a_user_of_the_tokenizer_gets(minilm: Path) -> None:
    plain = load_tokenizer(str(minilm))
    plain.model_input_names = ["input_ids", "attention_mask"]
    typed = load_tokenizer(str(minilm))
    typed.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    found = [PairEncoder(one, 64).encode([("a", "b")])[0] for one in (plain, typed)]
    assert found[0][0] == found[1][0]
    assert found[0][1] == [0] * 5
    assert found[1][1] == [0, 0, 0, 1, 1]
    specs = [MultipleChoiceEncoder(one, 64).spec.fingerprint for one in (plain, typed)]
    assert specs[0] != specs[1]


def test_a_shard_has_what_a_batch_needs(source: Callable[..., EncodedSource], bert: Any) -> None:
    encoded = source(SAMPLES)
    first, second = encoded.shards
    assert [len(shard) for shard in encoded.shards] == [2, 1]
    assert [first.label(0), first.label(1), second.label(0)] == [0, 2, 1]
    assert [first.question(0), first.question(1), second.question(0)] == [None, "effect", "cause"]
    assert [first.subset(0), first.subset(1), second.subset(0)] == [None, "clean", None]
    assert [shard.choices for shard in encoded.shards] == [4, 2]
    assert encoded.longest == 4 * 24
    sizes = [np.diff(first.choice_offsets(number)) for number in (0, 1)]
    assert [len(size) for size in sizes] == [2, 4]
    assert first.lengths.tolist() == [len(size) * size.max() for size in sizes]
    assert first.token_counts.tolist() == [size.sum() for size in sizes]
    assert first.lengths.dtype == first.label_counts.dtype == np.int32
    assert first.label_counts.tolist() == [1, 1]
    whole = [
        [len(bert([sample["context"]], [choice])["input_ids"][0]) for choice in sample["choices"]]
        for sample in SAMPLES
    ]
    over = [max(0, size - 24) for sizes in whole for size in sizes]
    report = encoded.report
    assert isinstance(report, ChoiceReport)
    assert (report.samples, report.choices) == (3, 8)
    assert report.samples_truncated == 1
    assert report.contexts_truncated == 4
    assert report.choices_truncated == 1
    assert report.context_tokens_cut + report.choice_tokens_cut == sum(over) > 20
    assert report.tokens == sum(map(sum, whole)) - sum(over)
    assert not report.is_complete
    assert source(SAMPLES, max_length=200).report.is_complete


def test_chosen_samples_are_those_of_the_whole_source(
    source: Callable[..., EncodedSource],
) -> None:
    encoded = source(SAMPLES)
    one = encoded.choosing([np.array([1]), np.array([], dtype=np.int64)], "f" * 32).shards[0]
    assert one.lengths.tolist() == [encoded.shards[0].lengths[1]]
    assert one.token_counts.tolist() == [encoded.shards[0].token_counts[1]]
    assert one.label(0) == 2
    assert one.choice_offsets(0).tolist() == encoded.shards[0].choice_offsets(1).tolist()
    left = encoded.leaving_out([0])
    assert left.shards[0].lengths.tolist() == [encoded.shards[1].lengths[0]] * 2
    assert left.report.samples == 1


def test_a_batch_is_its_pairs_padded(source: Callable[..., EncodedSource], bert: Any) -> None:
    encoded = source(SAMPLES)
    places = SimpleNamespace(
        source=np.zeros(3, np.int64), shard=np.array([0, 1, 0]), sample=np.array([1, 0, 0])
    )
    batch = collate_multiple_choice([encoded], places, pad_id=7)
    assert batch["input_ids"].shape == (3, 4, 24)
    assert batch["choice_counts"].tolist() == [4, 2, 2]
    assert batch["labels"].tolist() == [2, 1, 0]
    for row, content in enumerate((SAMPLES[1], SAMPLES[2], SAMPLES[0])):
        encoder = PairEncoder(bert, 24)
        for choice, text in enumerate(content["choices"]):
            ((ids, types, *_),) = encoder.encode([(content["context"], text)])
            size = len(ids)
            assert batch["input_ids"][row, choice, :size].tolist() == ids
            assert batch["token_type_ids"][row, choice, :size].tolist() == types
            assert batch["attention_mask"][row, choice].tolist() == [1] * size + [0] * (24 - size)
            assert (batch["input_ids"][row, choice, size:] == 7).all()
        missing = slice(len(content["choices"]), None)
        assert (batch["input_ids"][row, missing] == 7).all()
        assert (batch["attention_mask"][row, missing].sum(-1) == 1).all()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"choices": ["a", "b"], "label": 0}, "no context"),
    ({"context": "a", "label": 0}, "no choices"),
    ({"context": "a", "choices": ["a", "b"]}, "no label"),
    ({"context": 3, "choices": ["a", "b"], "label": 0}, "context is not a string"),
    ({"context": "a", "choices": [], "label": 0}, "0 choices, there have to be 2 or more"),
    ({"context": "a", "choices": ["a"], "label": 0}, "1 choice, there have to be 2 or more"),
    ({"context": "a", "choices": ["a", 2], "label": 0}, "choices is not a list of strings"),
    ({"context": "a", "choices": "ab", "label": 0}, "choices is not a list of strings"),
    ({"context": "a", "choices": ["a", "b"], "label": 2}, "the label is 2, and there are 2"),
    ({"context": "a", "choices": ["a", "b"], "label": -1}, "the label is -1"),
    ({"context": "a", "choices": ["a", "b"], "label": True}, "label is not a whole number"),
    ({"context": "a", "choices": ["a", "b"], "label": "0"}, "label is not a whole number"),
    ({"context": "a\ud800", "choices": ["a", "b"], "label": 0}, "a lone surrogate"),
    ({"context": "a", "choices": ["a", "b\udfff"], "label": 0}, "a lone surrogate"),
    ({"context": "a", "choices": ["a", "b"], "label": 0, "subset": 3}, "subset is not a string"),
    ({"context": "a", "choices": ["a", "b"], "label": 0, "question": 3}, "question is not a str"),
]


def test_everything_malformed_is_refused_at_once(
    source: Callable[..., EncodedSource], tmp_path: Path
) -> None:
    good = SAMPLES[0]
    with pytest.raises(LabelError) as caught:
        source([good, *(content for content, _ in BAD), good])
    problems = caught.value.problems
    assert len(problems) == len(BAD)
    for number, (problem, (_, words)) in enumerate(zip(problems, BAD, strict=True), start=1):
        assert words in problem.what
        place = f"/source, shard shard-{number // 2:06d}.tar sample s{number}"
        assert problem.where.endswith(place)


def test_many_malformed_samples_are_counted(
    source: Callable[..., EncodedSource], tmp_path: Path
) -> None:
    with pytest.raises(LabelError) as caught:
        source([{"context": "a", "choices": ["a"], "label": 0}] * 64)
    *named, rest = caught.value.problems
    assert len(named) == MOST_PROBLEMS
    assert named[-1].where.endswith(f"sample s{MOST_PROBLEMS - 1}")
    assert f"{64 - MOST_PROBLEMS} more problems" in rest.what


def test_the_maximum_length_has_room_for_both_parts(bert: Any) -> None:
    with pytest.raises(EncodingError, match="Use 5 to"):
        MultipleChoiceEncoder(bert, 4)


def test_sidecars_of_token_classification_keep_their_fingerprints() -> None:
    """The value that sidecars on disk were made with."""
    spec = EncodingSpec("token_classification", "any", "ab" * 16, 128, "any", "cd" * 16)
    assert spec.fingerprint == "60af127bd9c301c933b16723d0caf156"
