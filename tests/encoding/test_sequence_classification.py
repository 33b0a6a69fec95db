"""Texts and pairs as arrays: against the tokenizer itself, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.encoding.collate import collate_texts
from headrace.encoding.report import TextReport
from headrace.encoding.sequence_classification import (
    SequenceClassificationEncoder,
    Text,
    TextEncoder,
)
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.errors import EncodingError, LabelError
from headrace.shards import Sample, ShardReader

LONG = "the old mill stands by the river and its wheel turns slowly all day and night"
SAMPLES: list[dict[str, Any]] = [
    {"text": "It grinds grain.", "label": "yes", "subset": "clean"},
    {"text": LONG, "pair": LONG[:30], "label": "no", "other": [1]},
    {"text": "a", "pair": "b", "score": 3.8},
    {"text": "[SEP] a", "label": "yes", "score": 2},
]
TEXTS = st.text(st.sampled_from("ab cde.\u05d0é"), max_size=60)


@pytest.fixture
def source(
    write_source: Callable[..., ShardReader], bert: Any, tmp_path: Path
) -> Callable[..., EncodedSource]:
    def encode(samples: list[dict[str, Any]], max_length: int = 24) -> EncodedSource:
        made = [
            Sample(f"s{number}", {"txt": b"from txt", "json": json.dumps(content).encode()})
            for number, content in enumerate(samples)
        ]
        reader = write_source(tmp_path / "source", made, samples_per_shard=2, overwrite=True)
        encoder = SequenceClassificationEncoder(bert, max_length)
        return encode_source(reader, encoder, cache_dir=tmp_path / "cache", language="en")

    return encode


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@given(TEXTS, st.none() | TEXTS, st.integers(6, 24), st.sampled_from(["left", "right"]))
def test_texts_are_those_that_a_user_of_the_tokenizer_gets(
    request: pytest.FixtureRequest,
    kind: str,
    first: str,
    second: str | None,
    max_length: int,
    side: str,
) -> None:
    tokenizer = request.getfixturevalue(kind)
    before, tokenizer.truncation_side = tokenizer.truncation_side, side
    try:
        (found,) = TextEncoder(tokenizer, max_length).encode([Text(first, second)])
        pair = None if second is None else [second]
        expected = tokenizer([first], pair, truncation=True, max_length=max_length)
        whole = tokenizer([first], pair)["input_ids"][0]
    finally:
        tokenizer.truncation_side = before
        tokenizer.backend_tokenizer.no_truncation()
    assert [found.ids] == expected["input_ids"]
    zeros = [[0] * len(found.ids)]
    assert [found.types] == expected.get("token_type_ids", zeros)
    assert found.cut == len(whole) - len(found.ids)


def test_special_tokens_cannot_be_written_in_a_text(bert: Any) -> None:
    (found,) = TextEncoder(bert, 64).encode([Text("[SEP] a", "It [SEP] flies")])
    assert found.ids.count(bert.sep_token_id) == 2


def test_a_shard_has_what_a_batch_needs(source: Callable[..., EncodedSource], bert: Any) -> None:
    encoded = source(SAMPLES)
    first, second = encoded.shards
    assert [first.label_name(0), first.label_name(1)] == ["yes", "no"]
    assert [second.label_name(0), second.label_name(1)] == [None, "yes"]
    assert math.isnan(first.score(0))
    assert [second.score(0), second.score(1)] == [3.8, 2.0]
    assert [first.subset(0), first.subset(1)] == ["clean", None]
    assert first.label_counts.tolist() == [1, 1]
    assert first.meta["label_places"] == ["s0", "s1"]
    assert first.meta["without"] == {"score": "s0"}
    assert second.meta["without"] == {"label": "s2"}
    report = encoded.report
    assert isinstance(report, TextReport)
    whole = len(bert([LONG], [LONG[:30]])["input_ids"][0])
    assert (report.samples, report.pairs, report.samples_truncated) == (4, 2, 1)
    assert report.tokens_cut == whole - 24 > 0
    assert not report.is_complete
    assert source(SAMPLES, max_length=200).report.is_complete
    places = SimpleNamespace(
        source=np.zeros(3, np.int64), shard=np.array([1, 0, 0]), sample=np.array([0, 1, 0])
    )
    batch = collate_texts([encoded], places, pad_id=7)
    assert batch["input_ids"].shape == (3, 24)
    texts = [Text("a", "b"), Text(LONG, LONG[:30]), Text("It grinds grain.", None)]
    for row, own in enumerate(TextEncoder(bert, 24).encode(texts)):
        size = len(own.ids)
        assert batch["input_ids"][row].tolist() == own.ids + [7] * (24 - size)
        assert batch["token_type_ids"][row].tolist() == own.types + [0] * (24 - size)
        assert batch["attention_mask"][row].tolist() == [1] * size + [0] * (24 - size)


def test_a_text_may_stand_in_txt(source: Callable[..., EncodedSource], bert: Any) -> None:
    encoded = source([{"label": "yes"}])
    assert encoded.shards[0].tokens(0).tolist() == bert("from txt")["input_ids"]


def test_chosen_samples_keep_their_labels(source: Callable[..., EncodedSource]) -> None:
    chosen = source(SAMPLES).choosing([np.array([1]), np.array([1])], "f" * 32)
    assert [shard.label_name(0) for shard in chosen.shards] == ["no", "yes"]
    assert chosen.shards[1].score(0) == 2.0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"text": 3, "label": "yes"}, "text is not a string"),
    ({"text": None, "label": "yes"}, "the sample has no text"),
    ({"text": "a", "pair": ["b"], "label": "yes"}, "pair is not a string"),
    ({"text": "a\ud800", "label": "yes"}, "a lone surrogate"),
    ({"text": "a", "pair": "\udfff", "label": "yes"}, "a lone surrogate"),
    ({"text": "a"}, "neither a label nor a score"),
    ({"text": "a", "label": 1}, "the label is a number, labels are names"),
    ({"text": "a", "label": 3.8}, "the label is a number, labels are names"),
    ({"text": "a", "label": ["yes"]}, "label is not a string with words"),
    ({"text": "a", "label": " "}, "label is not a string with words"),
    ({"text": "a", "score": "3.8"}, "score is not a finite number"),
    ({"text": "a", "score": True}, "score is not a finite number"),
    ({"text": "a", "score": math.inf}, "score is not a finite number"),
    ({"text": "a", "label": "yes", "score": "high"}, "score is not a finite number"),
    ({"text": "a", "label": "yes", "subset": 3}, "subset is not a string"),
]


def test_everything_malformed_is_refused_at_once(source: Callable[..., EncodedSource]) -> None:
    good = SAMPLES[0]
    with pytest.raises(LabelError) as caught:
        source([good, *(content for content, _ in BAD), good])
    problems = caught.value.problems
    assert len(problems) == len(BAD)
    for number, (problem, (_, words)) in enumerate(zip(problems, BAD, strict=True), start=1):
        assert words in problem.what
        place = f"/source, shard shard-{number // 2:06d}.tar sample s{number}"
        assert problem.where.endswith(place)


def test_the_maximum_length_has_room_for_both_parts(bert: Any) -> None:
    with pytest.raises(EncodingError, match="Use 5 to"):
        SequenceClassificationEncoder(bert, 4)
