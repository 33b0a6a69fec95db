from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headrace.encoding.collate import collate_packed, collate_token_classification
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.token_classification import TokenClassificationEncoder
from headrace.shards import Sample, ShardReader
from headrace.tasks.labels import LabelSet


@pytest.fixture
def sources(
    tagged: Callable[..., list[Sample]],
    make_words: Callable[..., list[list[str]]],
    write_source: Callable[..., ShardReader],
    tokenizer: Any,
    label_set: LabelSet,
    tmp_path: Path,
) -> list[EncodedSource]:
    return [
        encode_source(
            write_source(tmp_path / language, tagged([[], *make_words(language, 9)])),
            TokenClassificationEncoder(tokenizer, label_set, 20),
            cache_dir=tmp_path / "cache",
            language=language,
        )
        for language in ("en", "bn")
    ]


def locations(*places: tuple[int, int, int]) -> Any:
    columns = np.array(places, dtype=np.int64).reshape(-1, 3).T
    return SimpleNamespace(source=columns[0], shard=columns[1], sample=columns[2])


def test_a_batch_is_its_samples_padded(sources: list[EncodedSource]) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        places = [
            (int(random.integers(2)), int(shard), int(random.integers(2 if shard == 2 else 4)))
            for shard in random.integers(0, 3, size=random.integers(1, 9))
        ]
        batch = collate_token_classification(sources, locations(*places), pad_id=1, words=True)
        longest = max(sources[s].shards[t].lengths[i] for s, t, i in places)
        assert {name: batch[name].shape for name in ("input_ids", "attention_mask", "labels")} == {
            name: (len(places), longest) for name in ("input_ids", "attention_mask", "labels")
        }
        for row, (source, number, sample) in enumerate(places):
            shard = sources[source].shards[number]
            length = shard.lengths[sample]
            padding = int(longest - length)
            tokens, labels = shard.tokens(sample).tolist(), shard.labels(sample).tolist()
            assert batch["input_ids"][row].tolist() == tokens + [1] * padding
            assert batch["labels"][row].tolist() == labels + [-100] * padding
            assert batch["attention_mask"][row].tolist() == [1] * int(length) + [0] * padding
            words = slice(*batch["word_offsets"][row : row + 2])
            assert np.array_equal(batch["word_positions"][words], shard.word_positions(sample))
            assert np.array_equal(batch["word_tags"][words], shard.word_tags(sample))
        assert {batch[name].dtype for name in ("input_ids", "attention_mask", "labels")} == {
            np.dtype(np.int64)
        }


def test_padding_to_a_multiple(sources: list[EncodedSource]) -> None:
    places = locations((0, 0, 1), (1, 0, 2))
    plain = collate_token_classification(sources, places, pad_id=1)
    padded = collate_token_classification(sources, places, pad_id=1, pad_to_multiple_of=7)
    length = plain["input_ids"].shape[1]
    assert length % 7
    assert padded["input_ids"].shape[1] == -(-length // 7) * 7
    for name, value in (("input_ids", 1), ("attention_mask", 0), ("labels", -100)):
        assert np.array_equal(padded[name][:, :length], plain[name])
        assert (padded[name][:, length:] == value).all()


def test_no_samples_are_an_empty_batch(sources: list[EncodedSource]) -> None:
    batch = collate_token_classification(sources, locations(), pad_id=1, words=True)
    assert batch["input_ids"].shape == batch["labels"].shape == (0, 0)
    assert batch["word_positions"].shape == (0,)
    assert batch["word_offsets"].tolist() == [0]


def test_samples_without_words(sources: list[EncodedSource]) -> None:
    batch = collate_token_classification(sources, locations((0, 0, 0)), pad_id=1, words=True)
    assert batch["input_ids"].tolist() == [[0, 2]]
    assert batch["labels"].tolist() == [[-100, -100]]
    assert batch["word_offsets"].tolist() == [0, 0]


def test_packed_rows_hold_their_samples_one_behind_the_other(sources: list[EncodedSource]) -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        rows = [
            [
                (int(random.integers(2)), int(shard), int(random.integers(2 if shard == 2 else 4)))
                for shard in random.integers(0, 3, size=random.integers(1, 4))
            ]
            for _ in range(random.integers(1, 5))
        ]
        places = [place for row in rows for place in row]
        starts = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
        batch = collate_packed(sources, locations(*places), starts, pad_id=1, pack_length=61)
        assert {array.shape for array in batch.values()} == {(len(rows), 61)}
        assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}
        for number, row in enumerate(rows):
            ids: list[int] = []
            tags: list[int] = []
            positions: list[int] = []
            segments: list[int] = []
            for segment, (source, shard, sample) in enumerate(row, start=1):
                encoded = sources[source].shards[shard]
                tokens = encoded.tokens(sample).tolist()
                ids += tokens
                tags += encoded.labels(sample).tolist()
                positions += range(len(tokens))
                segments += [segment] * len(tokens)
            padding = 61 - len(ids)
            assert batch["input_ids"][number].tolist() == ids + [1] * padding
            assert batch["labels"][number].tolist() == tags + [-100] * padding
            assert batch["position_ids"][number].tolist() == positions + [0] * padding
            assert batch["segments"][number].tolist() == segments + [0] * padding
