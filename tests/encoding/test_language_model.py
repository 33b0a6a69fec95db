"""Texts cut into sequences: nothing is lost, nothing is too long, and what is counted is there."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Tokenizer

from headrace.encoding.language_model import (
    Frame,
    LanguageModelEncoder,
    cut_at_words,
    frame_of_causal_lm,
    frame_of_masked_lm,
)
from headrace.encoding.pairs import copied_backend
from headrace.encoding.report import DocumentReport
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.errors import EncodingError, LabelError
from headrace.shards import Sample, ShardReader, ShardWriter

LONG = "the old mill stands by the river and its wheel turns slowly all day and all night"
TEXTS = ["It grinds.", LONG, " \n ", "河水推动水车 [MASK] </s>", f"{LONG}. {LONG}!", "é" * 40]


def encoder_of(tokenizer: Any, task: str, max_length: int, **options: Any) -> LanguageModelEncoder:
    is_causal = task == "causal_lm"
    frame = frame_of_causal_lm if is_causal else frame_of_masked_lm
    return LanguageModelEncoder(
        tokenizer, max_length, task=task, frame=frame(tokenizer),
        byte_counts=is_causal, special_labels=is_causal, **options,
    )  # fmt: skip


@pytest.fixture
def source(write_source: Callable[..., ShardReader], tmp_path: Path) -> Callable[..., Any]:
    def encode(encoder: LanguageModelEncoder, texts: list[str], **options: Any) -> EncodedSource:
        samples = [
            Sample(f"s{number}", {"txt": text.encode(), "json": json.dumps(extra).encode()})
            for number, text in enumerate(texts)
            for extra in [{"subset": "odd"} if number % 2 else {}]
        ]
        reader = write_source(tmp_path / "source", samples, samples_per_shard=2, overwrite=True)
        return encode_source(
            reader, encoder, cache_dir=tmp_path / "cache", language="en", **options
        )

    return encode


def sequences_of(source: EncodedSource) -> list[list[list[int]]]:
    """The sequences of each text."""
    found = []
    for shard in source.shards:
        bounds = shard.array("text_offsets").tolist()
        for start, end in itertools.pairwise(bounds):
            found.append([shard.tokens(number).tolist() for number in range(start, end)])
    return found


@pytest.mark.parametrize("task", ["masked_lm", "causal_lm"])
@pytest.mark.parametrize("name", ["tokenizer", "bert", "roberta"])
def test_the_sequences_of_a_text_hold_all_of_its_tokens(
    request: pytest.FixtureRequest, source: Callable[..., EncodedSource], name: str, task: str
) -> None:
    tokenizer = request.getfixturevalue(name)
    encoder = encoder_of(tokenizer, task, 12)
    encoded = source(encoder, TEXTS)
    backend = copied_backend(tokenizer)
    frame = encoder._frame
    before, after = list(frame.before), list(frame.after)
    counts = []
    for text, parts in zip(TEXTS, sequences_of(encoded), strict=True):
        expected = backend.encode(text, add_special_tokens=False).ids
        expected += list(frame.end) if expected else []
        inside = []
        for part in parts:
            assert len(part) <= 12
            assert part[: len(before)] == before
            assert part[len(part) - len(after) :] == after
            inside += part[len(before) : len(part) - len(after)]
        assert inside == expected
        counts.append(len(parts))
    assert max(counts) > 3
    assert encoded.samples == sum(counts)
    report = encoded.report
    assert isinstance(report, DocumentReport)
    assert (report.texts, report.sequences) == (6, sum(counts))
    assert report.texts_cut == sum(count > 1 for count in counts)
    assert report.empty_texts == counts.count(0)
    assert report.is_complete


def test_every_byte_of_a_text_is_counted_once(
    source: Callable[..., EncodedSource], tokenizer: Any
) -> None:
    encoded = source(encoder_of(tokenizer, "causal_lm", 10), TEXTS)
    for shard, texts in zip(encoded.shards, (TEXTS[:2], TEXTS[2:4], TEXTS[4:]), strict=True):
        bounds, sizes = shard.array("text_offsets"), shard.array("byte_counts")
        for number, text in enumerate(texts):
            own = sizes[bounds[number] : bounds[number + 1]]
            assert own.sum() == (len(text.encode()) if len(own) else 0)
        assert [shard.bytes(n) for n in range(len(shard))] == sizes.tolist()
        # all tokens but the first of each sequence are predicted
        assert np.array_equal(shard.label_counts, shard.token_counts - 1)


def test_special_tokens_are_no_labels_of_masked_language_modelling(
    source: Callable[..., EncodedSource], bert: Any
) -> None:
    text = "the \u0e01\u0e02 mill"
    ids = bert(text)["input_ids"]
    unknown = ids.count(bert.unk_token_id)
    assert unknown
    encoded = source(encoder_of(bert, "masked_lm", 16), [text, "a"])
    (shard,) = encoded.shards
    assert shard.label_counts.tolist() == [len(ids) - 2 - unknown, 1]
    assert encoded.report.unknown_tokens == unknown


@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.integers(2, 20),
)
def test_stretches_are_as_long_as_they_can_be_and_end_at_words(
    starts: list[bool], room: int
) -> None:
    starts[0] = True
    cuts = cut_at_words(np.array(starts), room).tolist()
    assert cuts[0] == 0
    assert cuts[-1] == len(starts)
    for start, end in itertools.pairwise(cuts):
        assert 0 < end - start <= room
        if end == len(starts):
            continue
        if starts[end]:
            assert not any(starts[end + 1 : start + room + 1])
        else:
            assert end - start == room
            assert not any(starts[end - room // 2 : end + 1])


def test_subsets_go_with_every_sequence(
    source: Callable[..., EncodedSource], tokenizer: Any
) -> None:
    encoded = source(encoder_of(tokenizer, "masked_lm", 12), [LONG, LONG])
    (shard,) = encoded.shards
    half = len(shard) // 2
    assert [shard.subset(number) for number in range(len(shard))] == [None] * half + ["odd"] * half


def test_chosen_texts_bring_all_of_their_sequences(
    source: Callable[..., EncodedSource], tokenizer: Any
) -> None:
    encoded = source(encoder_of(tokenizer, "masked_lm", 12), TEXTS)
    numbers = [np.array([1]), np.array([], dtype=np.int64), np.array([0, 1])]
    chosen = encoded.choosing(numbers, "f" * 32)
    texts = sequences_of(encoded)
    expected = [texts[1], [], texts[4] + texts[5]]
    for shard, wanted in zip(chosen.shards, expected, strict=True):
        found = [
            shard.array("tokens")[start:end].tolist()
            for start, end in zip(*shard.token_bounds, strict=True)
        ]
        assert found == wanted
        assert len(shard) == len(shard.lengths) == len(shard.label_counts) == len(wanted)
    assert chosen.shards[2].texts == 2


def test_a_shard_that_is_left_out_has_as_many_sequences_as_its_texts_would_have(
    source: Callable[..., EncodedSource], tokenizer: Any
) -> None:
    """It depends on which shards are left out, not on whether this rank could read them."""
    encoder = encoder_of(tokenizer, "masked_lm", 12)
    whole = source(encoder, TEXTS)
    without = whole.leaving_out([1])
    blind = source(encoder, TEXTS, left_out=[1])
    intact = [shard for number, shard in enumerate(whole.shards) if number != 1]
    expected = -(-2 * sum(map(len, intact)) // 4)
    assert len(without.shards[1]) == len(blind.shards[1]) == expected
    assert without.shards[1].lengths.tolist() == blind.shards[1].lengths.tolist()
    both = without.leaving_out([0])
    assert [len(s) for s in both.shards] == [len(s) for s in blind.leaving_out([0]).shards]


def test_what_cannot_be_encoded_is_named(
    source: Callable[..., EncodedSource],
    write_source: Callable[..., ShardReader],
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    with pytest.raises(EncodingError, match="max_length"):
        encoder_of(tokenizer, "masked_lm", 3)
    samples = [
        Sample("a", {"txt": b"x", "json": b"no"}),
        Sample("b", {"txt": b"\xff", "json": b"{}"}),
        Sample("c", {"txt": b"x", "json": b'{"subset": 3}'}),
        Sample("d", {"txt": b"good", "json": b"{}"}),
    ]
    reader = write_source(tmp_path / "bad", samples)
    with pytest.raises(LabelError) as caught:
        encode_source(
            reader, encoder_of(tokenizer, "masked_lm", 12),
            cache_dir=tmp_path / "cache", language="en",
        )  # fmt: skip
    assert len(caught.value.problems) == 3
    for key, problem in zip("abc", caught.value.problems, strict=True):
        assert f"sample {key}" in problem.where


def test_samples_of_nothing_but_text_are_encoded(tokenizer: Any, tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path / "plain"), fields=("txt",)) as writer:
        writer.write(Sample("a", {"txt": LONG.encode()}))
    reader = ShardReader(str(tmp_path / "plain"))
    encoder = encoder_of(tokenizer, "masked_lm", 64)
    encoded = encode_source(reader, encoder, cache_dir=tmp_path / "cache", language="en")
    assert encoded.shards[0].tokens(0).tolist() == tokenizer(LONG)["input_ids"]


def test_roles_of_special_tokens(tokenizer: Any, bert: Any) -> None:
    assert frame_of_masked_lm(bert) == Frame((bert.cls_token_id,), (bert.sep_token_id,))
    assert frame_of_causal_lm(bert) == Frame((bert.cls_token_id,), (), (bert.sep_token_id,))
    assert frame_of_causal_lm(tokenizer) == Frame(
        (tokenizer.bos_token_id,), (), (tokenizer.eos_token_id,)
    )
    letters = {letter: number for number, letter in enumerate("abc")}
    gpt2 = GPT2Tokenizer(vocab={**letters, "<|endoftext|>": 3}, merges=[])
    assert frame_of_causal_lm(gpt2) == Frame((3,), (), (3,))
    gpt2.bos_token = gpt2.eos_token = None
    with pytest.raises(EncodingError, match="bos_token and eos_token"):
        frame_of_causal_lm(gpt2)
