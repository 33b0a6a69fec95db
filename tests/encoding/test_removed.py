"""Sidecars without removed samples: the same numbers and planned lengths as with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.encoding.language_model import LanguageModelEncoder, frame_of_masked_lm
from headrace.encoding.purge import purge_sidecars
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.token_classification import TokenClassificationEncoder
from headrace.errors import ShardError
from headrace.shards import Sample, ShardReader
from headrace.shards.overwrite import overwrite_removed
from headrace.shards.sample import make_sample
from headrace.shards.tombstones import Removed, add_tombstones
from headrace.stream.batching import BatchPlan
from headrace.stream.grouping import PackPlan
from headrace.stream.plan import StagePlan
from headrace.stream.sources import stream_source
from headrace.tasks.labels import LabelSet

Encode = Callable[..., EncodedSource]


@pytest.fixture
def url(tmp_path: Path, write_source: Callable[..., ShardReader]) -> str:
    """Texts of 2 to 41 words, in shards of 8."""
    samples = []
    for number in range(30):
        words = [f"wheel{number}"] + ["river", "mill", "water"] * (number * 7 % 20) + ["grain"]
        samples.append(make_sample(f"s{number}", " ".join(words), {}))
    return write_source(tmp_path / "source", samples, samples_per_shard=8).url


@pytest.fixture
def encode(tokenizer: Any, tmp_path: Path) -> Encode:
    def call(url: str, cache: str = "cache", **options: Any) -> EncodedSource:
        encoder = LanguageModelEncoder(
            tokenizer, 16, task="masked_lm", frame=frame_of_masked_lm(tokenizer)
        )
        folder = tmp_path / cache
        return encode_source(ShardReader(url), encoder, cache_dir=folder, language="en", **options)

    return call


def remove(url: str, *numbers: int) -> None:
    rows = [Removed(f"shard-{n // 8:06d}.tar", n % 8, f"s{n}") for n in numbers]
    add_tombstones(url, rows)


def rows_of(source: EncodedSource) -> list[list[int] | None]:
    """The tokens that are read for every sequence of the source; None: it is absent."""
    rows: list[list[int] | None] = []
    for number, shard in enumerate(source.shards):
        absent = source.absent.get(number, np.zeros(len(shard), bool))
        if absent.all():
            rows += [None] * len(shard)
            continue
        starts, ends = shard.token_bounds
        tokens = shard.array("tokens")
        rows += [
            None if gone else tokens[start:end].tolist()
            for start, end, gone in zip(starts, ends, absent, strict=True)
        ]
    return rows


def lengths_of(source: EncodedSource) -> list[int]:
    return [int(length) for shard in source.shards for length in shard.lengths]


def texts_of_rows(source: EncodedSource) -> list[int]:
    """The number of the text of each sequence."""
    numbers = []
    for shard, first in zip(source.shards, range(0, 30, 8), strict=True):
        for text in range(shard.texts):
            numbers += [first + text] * len(shard.sequences_of(np.array([text])))
    return numbers


def cached_tokens(folder: Path) -> list[list[int]]:
    return [np.load(path).tolist() for path in folder.rglob("tokens.npy")]


@pytest.mark.parametrize("known", ["cache", "text", "source"])
def test_sequences_keep_their_numbers_and_planned_lengths(
    url: str, encode: Encode, tmp_path: Path, known: str
) -> None:
    before = encode(url)
    kept = rows_of(before), texts_of_rows(before), lengths_of(before)
    gone = {1, 5, 6, 17, 29}
    remove(url, *gone)
    if known == "cache":  # the shards are overwritten; lengths come from the old sidecar
        overwrite_removed(url)
        after = encode(url)
    elif known == "text":  # no sidecar; the text is still there
        after = encode(url, cache="other")
    else:
        overwrite_removed(url)
        assert purge_sidecars(url, tmp_path / "cache") > 0
        after = encode(url, cache="other")
    assert_recorded(Recorded(before, *kept), after, gone)
    assert after.substituted > 0
    again = encode(url, cache="cache" if known == "cache" else "other")
    assert rows_of(again) == rows_of(after)
    folder = tmp_path / ("cache" if known == "cache" else "other")
    lacks = [set(json.loads(p.read_text()).get("lacks", ())) for p in folder.rglob("meta.json")]
    assert sum(map(len, lacks)) == len(gone)
    assert after.living().samples == sum(text not in gone for text in kept[1])


class Recorded:
    """What a source was before its sidecars were deleted."""

    def __init__(self, source: EncodedSource, rows: Any, texts: list[int], lengths: list[int]):
        self.fingerprint, self.rows, self.texts, self.lengths = (
            source.fingerprint, rows, texts, lengths,
        )  # fmt: skip


def assert_recorded(before: Recorded, after: EncodedSource, gone: set[int]) -> None:
    assert texts_of_rows(after) == before.texts
    assert lengths_of(after) == before.lengths
    assert after.fingerprint == before.fingerprint
    living = [r for r, text in zip(before.rows, before.texts, strict=True) if text not in gone]
    for old, new, text, length in zip(
        before.rows, rows_of(after), before.texts, before.lengths, strict=True
    ):
        if text not in gone:
            assert new == old
        elif new is not None:
            assert new in living
            assert len(new) <= length


def test_removed_tokens_leave_the_sidecar(url: str, encode: Encode, tmp_path: Path) -> None:
    before = encode(url)
    (own,) = [
        row for row, text in zip(rows_of(before), texts_of_rows(before), strict=True) if text == 20
    ]  # of two words
    mark = own[1:4]
    remove(url, 20)
    encode(url)
    for tokens in cached_tokens(tmp_path / "cache"):
        assert not any(tokens[i : i + 3] == mark for i in range(len(tokens)))


def test_a_shard_of_which_nothing_lives_is_planned_with_and_left_out(
    url: str, encode: Encode
) -> None:
    before = encode(url)
    kept = Recorded(before, rows_of(before), texts_of_rows(before), lengths_of(before))
    gone = set(range(8, 16))
    remove(url, *gone)
    after = encode(url)
    assert_recorded(kept, after, gone)
    assert after.absent[1].all()
    assert after.without_samples == {1}
    assert after.living().samples == sum(text not in gone for text in kept.texts)
    assert after.report.texts == 22
    with pytest.raises(LookupError, match="removed"):
        after.shards[1].tokens(0)
    remove(url, *(number for number in range(30) if number not in gone))
    with pytest.raises(ShardError, match="all samples of the source were removed"):
        encode(url)


def test_lengths_that_nobody_knows_any_more_make_another_source(url: str, encode: Encode) -> None:
    """A run that was planned with them is refused; it never goes on with other batches."""
    before = encode(url)
    remove(url, 3, 4)
    overwrite_removed(url)
    after = encode(url, cache="other")
    assert after.fingerprint != before.fingerprint
    assert len(rows_of(after)) == after.samples
    assert None not in rows_of(after)


def test_chosen_samples_are_replaced_by_chosen_ones(url: str, encode: Encode) -> None:
    chosen = [np.arange(0, 8, 2), np.arange(8), np.arange(3), np.array([], dtype=np.int64)]
    before = encode(url).choosing(chosen, "f" * 32)
    lengths = lengths_of(before)
    rows = rows_of(before)
    remove(url, 0, 2, 9)
    after = encode(url).choosing(chosen, "f" * 32)
    assert lengths_of(after) == lengths
    for new in rows_of(after):
        assert new is None or new in rows


@pytest.mark.parametrize("packed", [False, True])
def test_batches_are_the_same_but_for_what_is_removed(
    url: str, encode: Encode, packed: bool
) -> None:
    """The promise: positions, batches and rows are planned as if nothing had been removed."""

    def batches(source: EncodedSource) -> tuple[Any, Any]:
        plain = stream_source("en", ShardReader(url))
        sizes = tuple(map(len, source.shards))
        part = type(plain)("en", url, sizes, source.fingerprint)
        plan = StagePlan([part], seed=3, stage="s")
        lengths = [[shard.lengths for shard in source.shards]]
        absent = {(0, shard): rows for shard, rows in source.absent.items()}
        if packed:
            return PackPlan(plan, lengths, pack_length=20, batch_size=3, absent=absent), plan
        return BatchPlan(plan, lengths, batch_size=6, window_batches=3, absent=absent), plan

    def places(plan: Any) -> list[list[tuple[int, int]]]:
        found = []
        for step in range(plan.steps_before(2)):
            batch = plan.batch(step)
            samples = batch.samples if packed else batch
            found.append(list(zip(samples.shard.tolist(), samples.sample.tolist(), strict=True)))
        return found

    source = encode(url)
    before, _ = batches(source)
    old, texts = places(before), texts_of_rows(source)
    starts = np.cumsum([0, *map(len, source.shards)])
    gone = {2, 20, *range(8, 16)}
    remove(url, *gone)
    source = encode(url)
    after, _ = batches(source)
    assert after.settings == before.settings
    assert after.fingerprint == before.fingerprint
    missing = 0
    for was, now in zip(old, places(after), strict=True):
        left = [place for place in was if place not in now]
        missing += len(left)
        assert [place for place in was if place in now] == now
        assert all(texts[starts[shard] + sample] in gone for shard, sample in left)
    assert 0 < missing < sum(map(len, old)) / 2
    if packed:
        rows, numbers = rows_of(source), starts
        for step in range(after.steps_before(1)):
            packs = after.batch(step)
            for first, last in zip(packs.starts[:-1], packs.starts[1:], strict=True):
                read = [
                    rows[numbers[packs.samples.shard[n]] + packs.samples.sample[n]]
                    for n in range(first, last)
                ]
                assert sum(len(row or ()) for row in read) <= 20


def test_samples_of_one_row_each(
    tagged: Callable[..., list[Sample]],
    make_words: Callable[..., list[list[str]]],
    write_source: Callable[..., ShardReader],
    tokenizer: Any,
    label_set: LabelSet,
    tmp_path: Path,
) -> None:
    url = write_source(tmp_path / "tags", tagged(make_words("en", 14)), samples_per_shard=8).url

    def encode() -> EncodedSource:
        return encode_source(
            ShardReader(url),
            TokenClassificationEncoder(tokenizer, label_set, 20),
            cache_dir=tmp_path / "cache",
            language="en",
        )

    before = encode()
    old = [
        (s.tokens(n).tolist(), s.labels(n).tolist()) for s in before.shards for n in range(len(s))
    ]
    lengths = lengths_of(before)
    remove(url, 1, 2)
    overwrite_removed(url)  # what is left of their metadata has no words
    after = encode()
    assert lengths_of(after) == lengths
    shard = after.shards[0]
    for number in range(8):
        row = (shard.tokens(number).tolist(), shard.labels(number).tolist())
        if number not in (1, 2):
            assert row == old[number]
        elif not after.absent.get(0, np.zeros(8, bool))[number]:
            assert row in old[:8]
            assert row not in old[1:3]
            assert shard.label_counts[number] == sum(label != -100 for label in row[1])
    assert after.living().shards[0].texts == 6
    shutil.rmtree(tmp_path / "cache")
    assert len(encode().shards[0]) == 8
