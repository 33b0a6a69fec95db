"""Removed samples: recorded by epoch, never read again, and replaced by a pure function."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ShardError
from headrace.shards import Manifest, ShardReader, ShardWriter
from headrace.shards.manifest import read_manifest
from headrace.shards.substitutes import choose_substitutes, seed_of
from headrace.shards.tombstones import Removed, add_tombstones, epoch_url, read_tombstones
from headrace.shards.verify import verify_source

SHARD = "shard-000000.tar"


def remove(folder: Path, *numbers: int, shard: str = SHARD) -> int:
    keys = ShardReader(str(folder)).keys(int(shard[6:12]))
    return add_tombstones(str(folder), [Removed(shard, n, keys[n]) for n in numbers])


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=40),
    st.data(),
)
def test_a_substitute_fits_and_changes_only_when_it_is_removed_itself(
    lengths: list[int], data: st.DataObject
) -> None:
    room = np.array(lengths)
    numbers = st.integers(0, len(lengths) - 1)
    first = sorted(data.draw(st.sets(numbers, min_size=1, max_size=len(lengths) - 1)))
    later = sorted({*first, *data.draw(st.sets(numbers))})

    def substitutes(removed: list[int]) -> dict[int, int]:
        living = np.ones(len(lengths), bool)
        living[removed] = False
        seeds = np.array([seed_of(f"k{number}") for number in removed], np.uint64)
        chosen = choose_substitutes(room, living, np.array(removed), seeds)
        for number, other in zip(removed, chosen.tolist(), strict=True):
            fitting = [n for n in range(len(lengths)) if living[n] and room[n] <= room[number]]
            assert other in fitting if fitting else other == -1
        return dict(zip(removed, chosen.tolist(), strict=True))

    before, after = substitutes(first), substitutes(later)
    for number in first:
        if before[number] not in later:
            assert after[number] == before[number]


def test_substitutes_are_spread_over_all_that_fit() -> None:
    living = np.arange(200) >= 100
    seeds = np.array([seed_of(f"k{number}") for number in range(100)], np.uint64)
    chosen = choose_substitutes(np.ones(200, int), living, np.arange(100), seeds)
    assert len(set(chosen.tolist())) > 50  # 63 are expected


def test_a_reader_passes_over_removed_samples_and_reads_others_in_their_place(
    source: Path,
) -> None:
    whole = list(ShardReader(str(source)))
    assert remove(source, 3, 7) == 1
    assert remove(source, 3) == 1, "it was removed before"
    assert remove(source, 19) == 2
    reader = ShardReader(str(source))
    gone = {3, 7, 19}
    assert [sample.key for sample in reader] == [
        sample.key for number, sample in enumerate(whole) if number not in gone
    ]
    assert (len(reader), reader.living) == (50, 47)
    shard = reader.shard(0)
    everything = shard.read_samples(np.arange(20))
    for number, sample in enumerate(everything):
        if number in gone:
            assert sample in whole[:20], "a substitute comes from the same shard"
            assert sample.key not in {whole[n].key for n in gone}
            assert sum(map(len, sample.fields.values())) <= sum(
                map(len, whole[number].fields.values())
            )
            assert shard[number] == sample
            assert shard.read_many(np.array([number]), ["txt"]) == [[sample.fields["txt"]]]
            assert shard.keys_of(np.array([number])) == [sample.key]
        else:
            assert sample == whole[number]
    again = pickle.loads(pickle.dumps(reader))
    assert list(again) == list(reader)
    assert read_manifest(str(source)).fingerprint == read_manifest(str(source)).identity
    assert not verify_source(str(source)).problems


def test_an_open_reader_notices_what_is_removed(source: Path) -> None:
    reader = ShardReader(str(source))
    before = reader.shard(0)[5]
    assert not reader.refresh()
    remove(source, 5)
    assert reader.refresh()
    assert not reader.refresh()
    assert reader.shard(0)[5] != before
    assert before not in list(reader)


def test_a_shard_without_a_living_sample_is_passed_over(source: Path) -> None:
    remove(source, *range(20))
    reader = ShardReader(str(source))
    assert len(list(reader)) == 30
    with pytest.raises(ShardError, match="all samples of the shard were removed"):
        reader.shard(0)[4]


def test_a_source_that_another_source_replaced_is_refused(
    source: Path, write_source: Callable[..., Manifest]
) -> None:
    reader = ShardReader(str(source))
    write_source(source, count=49, overwrite=True)
    with pytest.raises(ShardError, match="replaced while it was read"):
        reader.refresh()


def test_a_tombstone_file_that_is_gone_is_an_error(source: Path) -> None:
    remove(source, 3)
    remove(source, 4)
    Path(epoch_url(str(source), 1)).unlink()
    with pytest.raises(ShardError, match=r"000001\.json"):
        ShardReader(str(source))


@pytest.mark.parametrize("change", ["digest", "epoch", "manifest", "number", "shard"])
def test_a_changed_tombstone_file_is_an_error(source: Path, change: str) -> None:
    remove(source, 3)
    path = Path(epoch_url(str(source), 1))
    document = json.loads(path.read_text())
    if change == "number":
        document["removed"][0][1] = 4
    elif change == "shard":
        document["removed"] = []
    else:
        document[change] = "0" * 32 if isinstance(document[change], str) else 7
    path.write_text(json.dumps(document))
    with pytest.raises(ShardError, match="removed samples"):
        read_tombstones(str(source), read_manifest(str(source)))


def test_an_epoch_counts_from_the_manifest_on(source: Path) -> None:
    """A process that is killed between the two files has removed nothing yet."""
    before = (source / "manifest.json").read_bytes()
    remove(source, 3)
    (source / "manifest.json").write_bytes(before)
    assert ShardReader(str(source)).living == 50
    assert remove(source, 4) == 1
    assert ShardReader(str(source)).removed(0).numbers.tolist() == [4]


def test_a_sample_that_is_not_there_cannot_be_removed(source: Path) -> None:
    with pytest.raises(ShardError, match="no such sample"):
        add_tombstones(str(source), [Removed(SHARD, 20, "k")])
    with pytest.raises(ShardError, match="no such sample"):
        add_tombstones(str(source), [Removed("other.tar", 0, "k")])


def test_a_copy_with_other_samples_has_no_part_in_what_was_removed(
    source: Path, tmp_path: Path
) -> None:
    remove(source, 3)
    reader = ShardReader(str(source))
    with ShardWriter(str(tmp_path / "other")) as writer:
        writer.metadata |= reader.manifest.metadata
        for sample in reader:
            writer.write(sample)
    assert len(ShardReader(str(tmp_path / "other"))) == 49


def test_verify_lists_what_is_wrong_with_tombstones(source: Path) -> None:
    remove(source, 3)
    Path(epoch_url(str(source), 1)).write_text("{}")
    (problem,) = verify_source(str(source)).problems
    assert "removed samples" in problem.what
