from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import ConfigError, ShardError, StorageError
from headrace.shards import Sample, ShardReader, ShardWriter
from headrace.stream import ShardStream

SIZES = {"en": 73, "hi": 29, "th": 11}
"""Samples of each source, in shards of 10."""
EPOCH = sum(SIZES.values())

MakeStream = Callable[..., ShardStream]


def write_source(folder: Path, name: str, samples: int, per_shard: int = 10) -> str:
    with ShardWriter(str(folder), samples_per_shard=per_shard) as writer:
        for number in range(samples):
            fields = {"txt": f"{name} {number}".encode(), "json": b'{"n":%d}' % number}
            writer.write(Sample(f"{name}-{number}", fields))
    return str(folder)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("sources")
    return {name: write_source(folder / name, name, size) for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def make(urls: dict[str, str]) -> MakeStream:
    readers = {name: ShardReader(url) for name, url in urls.items()}

    def make_stream(**settings: Any) -> ShardStream:
        return ShardStream(readers, **{"fields": "txt", "seed": 5, **settings})

    return make_stream


def global_order(stream: ShardStream, epochs: int) -> list[bytes]:
    """The texts of some epochs, by the plan and the readers alone, one at a time."""
    found = []
    readers = [ShardReader(source.url) for source in stream.plan.sources]
    for epoch in range(epochs):
        places = stream.plan.locate(epoch, np.arange(stream.plan.samples_per_epoch))
        for source, shard, sample in zip(places.source, places.shard, places.sample, strict=True):
            found.append(readers[source].shard(int(shard))[int(sample)].fields["txt"])
    return found


def interleaved(parts: list[list[list[bytes]]]) -> list[bytes]:
    """The global order again, from the batches of all ranks."""
    whole = []
    for batches in zip(*parts, strict=True):
        world = len(batches)
        size = sum(map(len, batches))
        whole += [batches[number % world][number // world] for number in range(size)]
    return whole


def test_an_iteration_is_an_epoch_and_the_next_one_the_next_epoch(make: MakeStream) -> None:
    stream = make()
    assert [*stream, *stream, *stream] == global_order(stream, 3)
    assert stream.epoch == 3
    natural = make(temperature=1.0)
    assert len(set(natural)) == EPOCH == len(natural)


@settings(max_examples=50)
@given(
    world=st.integers(1, 7),
    batch_size=st.integers(1, 130),
    start=st.integers(0, 2 * EPOCH),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_ranks_together_make_the_global_order_from_any_position(
    make: MakeStream, world: int, batch_size: int, start: int, temperature: float
) -> None:
    one = make(temperature=temperature, rank=0, world_size=1)
    begin = one.state_at(start)
    parts = []
    for rank in range(world):
        stream = make(temperature=temperature, rank=rank, world_size=world, batch_size=batch_size)
        stream.load_state_dict(begin)
        parts.append([*stream, *stream])
    assert all(
        max(map(len, batches)) - min(map(len, batches)) <= 1 for batches in zip(*parts, strict=True)
    )
    one.load_state_dict(begin)
    assert interleaved(parts) == [*one, *one]


@settings(max_examples=50)
@given(start=st.integers(0, 3 * EPOCH), temperature=st.sampled_from([0.0, 1.0]))
def test_a_stream_that_begins_anywhere_is_the_rest_of_the_clean_one(
    make: MakeStream, start: int, temperature: float
) -> None:
    stream = make(temperature=temperature)
    stream.load_state_dict(stream.state_at(start))
    assert stream.epoch == start // EPOCH
    rest = list(chain.from_iterable(iter(stream) for _ in range(4 - stream.epoch)))
    assert rest == CLEAN.setdefault(temperature, global_order(stream, 4))[start:]


CLEAN: dict[float, list[bytes]] = {}


@given(world=st.integers(1, 5), start=st.integers(0, 2 * EPOCH))
def test_without_batches_a_rank_takes_every_worldth_sample(
    make: MakeStream, world: int, start: int
) -> None:
    one = make(rank=0, world_size=1)
    begin = one.state_at(start)
    one.load_state_dict(begin)
    rest = list(one)
    for rank in range(world):
        stream = make(rank=rank, world_size=world)
        stream.load_state_dict(begin)
        assert list(stream) == rest[rank::world]
        assert len(stream) == len(range(rank, EPOCH, world))
        assert stream.state_dict() == one.state_dict()


@settings(max_examples=50)
@given(
    runs=st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from([None, 1, 7, 32]), st.integers(0, 40)),
        max_size=12,
    )
)
def test_many_resumes_at_other_world_and_batch_sizes_lose_and_repeat_nothing(
    make: MakeStream, runs: list[tuple[int, int | None, int]]
) -> None:
    seen: list[bytes] = []
    state = make(temperature=0.5).state_at(0)
    for world, batch_size, items in runs:
        parts, states = [], []
        for rank in range(world):
            stream = make(temperature=0.5, rank=rank, world_size=world, batch_size=batch_size)
            stream.load_state_dict(state)
            taken = list(islice(stream, items))
            parts.append(taken if batch_size else [[item] for item in taken])
            states.append(stream.state_dict())
            assert states[0] == states[-1]
        if batch_size is None:  # at the end of an epoch the last ranks have a sample less
            longest = max(map(len, parts))
            parts = [part + [[]] * (longest - len(part)) for part in parts]
        seen += interleaved(parts)
        state = json.loads(json.dumps(states[0]))
    one = make(temperature=0.5)
    whole = chain.from_iterable(iter(one) for _ in range(13))
    assert seen == list(islice(whole, len(seen)))


def test_what_was_yielded_counts_whatever_is_made_of_it(make: MakeStream) -> None:
    # A batch size that is guessed from a list of dicts is the number of their keys, or of lists.
    from torch.utils.data import DataLoader

    stream = make(batch_size=16)
    as_dicts = DataLoader(stream, batch_size=None, collate_fn=lambda texts: [{"t": texts}])
    list(islice(as_dicts, 5))
    assert stream.state_dict()["next_position"] == 80


def test_the_state_is_small_and_the_same_on_every_rank(make: MakeStream) -> None:
    states = []
    for rank in range(3):
        stream = make(rank=rank, world_size=3, batch_size=20)
        for _ in islice(stream, 4):
            pass
        states.append(stream.state_dict())
    assert states[0] == states[1] == states[2]
    assert len(json.dumps(states[0])) < 1000
    assert states[0] == make(rank=0, world_size=1, batch_size=20).state_at(4)


def test_the_state_at_the_end_of_an_epoch_begins_the_next(make: MakeStream) -> None:
    clean = global_order(make(), 3)
    stream = make(batch_size=50)
    for number, _ in enumerate(stream, 1):
        if number == len(stream):  # the last batch is out, the iteration not yet over
            before = stream.state_dict()
    after = stream.state_dict()
    assert before == after
    for state in (before, after):
        again = make(batch_size=50)
        again.load_state_dict(state)
        assert again.epoch == 1
        assert list(chain.from_iterable(again)) == clean[EPOCH : 2 * EPOCH]
        assert list(chain.from_iterable(again)) == clean[2 * EPOCH :]


def test_a_second_resume_goes_on_from_the_first(make: MakeStream) -> None:
    clean = global_order(make(), 1)
    state, seen = make(batch_size=8).state_at(0), []
    for _ in range(4):
        stream = make(batch_size=8)
        stream.load_state_dict(state)
        seen += list(chain.from_iterable(islice(stream, 3)))
        state = stream.state_dict()
    assert seen == clean[:96]


@given(items=st.integers(0, 40), more=st.integers(0, 40), rank=st.integers(0, 3))
def test_the_state_after_some_items_can_be_asked_for(
    make: MakeStream, items: int, more: int, rank: int
) -> None:
    for batch_size in (None, 9):
        stream = make(rank=rank, world_size=4, batch_size=batch_size)
        endless = chain.from_iterable(iter(stream) for _ in range(9))
        list(islice(endless, items))
        start = stream.state_dict()
        assert start == stream.state_at(items)
        list(islice(endless, more))
        assert stream.state_dict() == stream.state_at(more, start) == stream.state_at(items + more)


def test_epochs_can_be_set(make: MakeStream) -> None:
    clean = global_order(make(), 3)
    stream = make()
    stream.set_epoch(2)
    assert list(stream) == clean[2 * EPOCH :]
    stream.set_epoch(0)
    assert list(islice(stream, 10)) == clean[:10]
    stream.set_epoch(0)  # a loop that says so at each epoch also does after a resume
    assert list(stream) == clean[10:EPOCH]
    with pytest.raises(ValueError, match="epoch"):
        stream.set_epoch(-1)


def test_an_iteration_is_over_when_another_has_begun(make: MakeStream) -> None:
    stream = make()
    first = iter(stream)
    next(first)
    assert len(list(stream)) == EPOCH - 1
    with pytest.raises(RuntimeError, match="begun anew"):
        next(first)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"seed": 6}, "seed"),
        ({"temperature": 0.3}, "mixture"),
        ({"weights": {"en": 1, "hi": 1, "th": 1}}, "mixture"),
        ({"shard_window": 3}, "shard window"),
    ],
)
def test_a_state_of_other_settings_is_refused_by_name(
    make: MakeStream, settings: dict[str, Any], name: str
) -> None:
    state = make().state_at(50)
    with pytest.raises(ConfigError, match=f"{name} changed since") as caught:
        make(**settings).load_state_dict(state)
    assert len(caught.value.problems) == 1


def test_the_state_of_an_edited_manifest_is_refused(tmp_path: Path) -> None:
    state = ShardStream({"en": write_source(tmp_path / "a", "en", 50)}).state_at(9)
    changed = ShardStream({"en": write_source(tmp_path / "b", "other", 50)})
    with pytest.raises(ConfigError, match="sources changed"):
        changed.load_state_dict(state)


def test_what_is_not_a_state_is_refused(make: MakeStream) -> None:
    with pytest.raises(ConfigError, match="version"):
        make().load_state_dict({"step": 3})
    with pytest.raises(ConfigError, match="version"):
        make().load_state_dict({}.get("stream"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="worker 1 of 2"):
        make().load_state_dict({**make().state_at(3), "worker": [1, 2, 0]})


def test_all_mistakes_are_reported_at_once(urls: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ShardStream(
            urls,
            batch_size=0,
            seed=1.5,  # type: ignore[arg-type]
            fields=[],
            weights={"en": 1.0},
            bad_shards="skip",  # type: ignore[arg-type]
        )
    assert [problem.where for problem in caught.value.problems] == [
        "batch_size",
        "seed",
        "fields",
        "bad_shards",
        "weights",
    ]
    with pytest.raises(ShardError) as caught_shards:
        ShardStream({"a": str(tmp_path / "a"), "b": str(tmp_path / "b")})
    assert len(caught_shards.value.problems) == 2
    with pytest.raises(ConfigError, match="rank"):
        ShardStream(urls, rank=3, world_size=2)
    with pytest.raises(ConfigError, match="must be a whole number"):
        ShardStream(urls, batch_size=2.5)  # type: ignore[arg-type]


def test_paths_and_numbers_of_numpy_will_do(urls: dict[str, str]) -> None:
    plain = ShardStream({"en": urls["en"]}, seed=3, batch_size=10)
    given = ShardStream({"en": Path(urls["en"])}, seed=np.int64(3), batch_size=np.int64(10))
    assert next(iter(given)) == next(iter(plain))
    assert json.dumps(given.state_dict()) == json.dumps(plain.state_dict())


def test_the_same_source_under_two_names_is_refused_and_a_copy_has_an_order_of_its_own(
    urls: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="named 2 times"):
        ShardStream({"one": urls["en"], "two": urls["en"]})
    shutil.copytree(urls["en"], tmp_path / "copy")
    stream = ShardStream({"one": urls["en"], "two": str(tmp_path / "copy")}, fields="txt")
    texts = list(stream)
    assert sorted(texts[::2] + texts[1::2]) == sorted([f"en {n}".encode() for n in range(73)] * 2)
    first, second = (
        [
            (shard, sample)
            for source, shard, sample in zip(
                *(getattr(places, name).tolist() for name in ("source", "shard", "sample")),
                strict=True,
            )
            if source == which
        ]
        for places in [stream.plan.locate(0, np.arange(len(texts)))]
        for which in (0, 1)
    )
    assert sorted(first) == sorted(second)
    assert first != second


def test_fields(make: MakeStream) -> None:
    (sample,) = islice(make(fields=None), 1)
    (both,) = islice(make(fields=["json", "txt"]), 1)
    (text,) = islice(make(), 1)
    assert isinstance(sample, Sample)
    assert both == (sample.fields["json"], sample.fields["txt"])
    assert text == sample.fields["txt"]
    assert sample.key == text.decode().replace(" ", "-")
    with pytest.raises(ConfigError, match=r"no field wav.*json, txt"):
        next(iter(make(fields="wav")))


def test_ranks_come_from_the_environment(make: MakeStream, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests may have a process group in this process.
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "5")
    stream = make(batch_size=10)
    assert (stream.rank, stream.world_size) == (2, 5)
    assert len(next(iter(stream))) == 2
    assert (make(rank=0, world_size=1).rank, make(rank=0, world_size=1).world_size) == (0, 1)
    monkeypatch.setenv("RANK", "two")
    with pytest.raises(ConfigError, match=r"RANK: not a whole number.*two"):
        iter(make())


def test_one_of_several_processes_has_to_know_which_it_is(
    make: MakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other tests may have a process group in this process.
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert (make().rank, make().world_size) == (0, 1)
    # All of them would take the part of rank 0.
    with pytest.raises(ConfigError, match="Give both, or neither"):
        iter(make(world_size=2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="Give both, or neither"):
        iter(make())


def test_a_pickled_stream_goes_on_where_it_was(make: MakeStream) -> None:
    stream = make(batch_size=10)
    list(islice(stream, 3))
    copied = pickle.loads(pickle.dumps(stream))
    assert list(copied) == list(stream)


def test_the_plan_needs_no_torch() -> None:
    code = (
        "import sys, headrace.stream, headrace.stream.plan; assert 'torch' not in sys.modules; "
        "from headrace.stream import ShardStream; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


MEASURE = """
import os, sys
from headrace.stream import ShardStream

stream = ShardStream({"en": sys.argv[1]}, batch_size=32, shard_window=2)
for epoch in range(6):
    for batch in stream:
        pass
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    rss = [fields[name].split()[0] for name in ("RssAnon", "RssFile")]
    print(*rss, len(os.listdir("/proc/self/fd")))
"""


def test_memory_and_open_files_stay_as_they_are_over_epochs(tmp_path: Path) -> None:
    shards, samples, size = 40, 400, 2000
    with ShardWriter(str(tmp_path), samples_per_shard=samples, fields=("txt",)) as writer:
        for number in range(shards * samples):
            writer.write(Sample(f"{number:06d}", {"txt": b"%06d" % number * (size // 6)}))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], check=True, capture_output=True, text=True
    )
    anonymous, mapped, files = zip(
        *(map(int, line.split()) for line in done.stdout.splitlines()), strict=True
    )
    tar_kilobytes = shards * samples * (size + 1000) // 1024
    assert max(anonymous) - anonymous[0] < 4000  # of 47 MB in an epoch
    assert max(mapped) - min(mapped) < tar_kilobytes / 4
    assert max(files) < 30


# Bad shards


def damage(url: str, number: int = 0) -> None:
    """Flip a bit of the text of the first sample of a shard."""
    (tar,) = Path(url).glob(f"*{number:06d}.tar")
    data = bytearray(tar.read_bytes())
    data[512] ^= 1
    tar.write_bytes(data)


@pytest.fixture
def bad_urls(tmp_path: Path) -> dict[str, str]:
    """Two sources; one shard of 20 blocks of 1 MiB has a bad one in its middle."""
    write_source(tmp_path / "small", "small", 40)
    with ShardWriter(str(tmp_path / "big"), samples_per_shard=200) as writer:
        for number in range(400):
            text = f"big {number} ".encode()
            writer.write(Sample(f"b{number}", {"txt": text + b"x" * 50_000, "json": b"{}"}))
    tar = tmp_path / "big" / "shard-000001.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    return {name: str(tmp_path / name) for name in ("small", "big")}


def served(stream: ShardStream, epochs: int = 1) -> list[bytes]:
    items = chain.from_iterable(iter(stream) for _ in range(epochs))
    return [b" ".join(item.split()[:2]) for item in items]


def test_a_bad_shard_is_refused(bad_urls: dict[str, str]) -> None:
    with pytest.raises(ShardError, match=r"shard-000001\.tar.*corrupt"):
        list(ShardStream(bad_urls, fields="txt"))


def test_a_quarantined_shard_is_left_out_and_positions_do_not_move(
    bad_urls: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = ShardStream(bad_urls, fields="txt", bad_shards="quarantine")
    places = stream.plan.locate(0, np.arange(440))
    names = [
        f"{'small' if source == 0 else 'big'} {shard * (10, 200)[source] + sample}".encode()
        for source, shard, sample in zip(
            places.source.tolist(), places.shard.tolist(), places.sample.tolist(), strict=True
        )
    ]
    is_bad = ((places.source == 1) & (places.shard == 1)).tolist()
    texts = served(stream)
    assert len(caplog.records) == 1
    assert "big/shard-000001.tar is not intact" in caplog.text
    assert stream.quarantined == ("big/shard-000001.tar",)
    # Everything else in its order, and of the shard what came before its bad bytes.
    first_bad = next(n for n, name in enumerate(names) if is_bad[n] and name not in set(texts))
    expected = [name for n, name in enumerate(names) if not is_bad[n] or n < first_bad]
    assert texts == expected
    assert 0 < sum(is_bad[:first_bad]) < 30
    assert stream.state_dict()["next_position"] == 440
    # The next epoch, and a stream that goes on from the state, do not touch it again.
    again = ShardStream(bad_urls, fields="txt", bad_shards="quarantine")
    again.load_state_dict(stream.state_dict())
    rest = served(again)
    assert rest == served(stream)
    assert len(rest) == 240
    assert len(caplog.records) == 1
    # Nor does it matter how many samples are read together.
    monkeypatch.setattr("headrace.stream.dataset.CHUNK", 7)
    monkeypatch.setattr("headrace.stream.dataset.FIRST_CHUNK", 3)
    assert served(ShardStream(bad_urls, fields="txt", bad_shards="quarantine")) == texts


def test_a_stream_goes_on_without_a_shard_that_is_gone(
    urls: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(urls["en"], tmp_path / "en")
    sources = {"en": str(tmp_path / "en")}
    state = ShardStream(sources, batch_size=10, bad_shards="quarantine").state_at(2)
    (tmp_path / "en" / "shard-000002.tar").unlink()
    (tmp_path / "en" / "shard-000004.idx").unlink()
    with pytest.raises(ShardError, match="shard-000002") as caught:
        ShardStream(sources, batch_size=10)
    assert len(caught.value.problems) == 2
    # Also where it goes on, in this process and in another that opens the source anew.
    stream = ShardStream(sources, batch_size=10, bad_shards="quarantine")
    stream.load_state_dict(state)
    list(stream)
    assert stream.quarantined == ("en/shard-000002.tar", "en/shard-000004.tar")
    again = pickle.loads(pickle.dumps(stream))
    assert sum(map(len, again)) == 73 - 20


@given(stop=st.integers(1, 400), batch_size=st.sampled_from([None, 1, 16]))
def test_a_resume_around_a_quarantine_is_exact(
    bad_stream: Callable[..., ShardStream], stop: int, batch_size: int | None
) -> None:
    clean = list(bad_stream())
    stream = bad_stream(batch_size=batch_size)
    items = list(islice(stream, stop))
    again = bad_stream(batch_size=batch_size)
    again.load_state_dict(stream.state_dict())
    if stream.epoch == 0:
        items += list(again)
    assert (list(chain.from_iterable(items)) if batch_size else items) == clean


@pytest.fixture(scope="module")
def bad_stream(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ShardStream]:
    folder = tmp_path_factory.mktemp("bad")
    url = write_source(folder / "en", "en", 400, per_shard=100)
    other = write_source(folder / "hi", "hi", 50)
    damage(url, 2)

    def make_stream(**settings: Any) -> ShardStream:
        return ShardStream(
            {"en": url, "hi": other}, fields="txt", bad_shards="quarantine", **settings
        )

    return make_stream


def test_ranks_keep_step_around_a_bad_shard(bad_urls: dict[str, str]) -> None:
    settings = {"fields": "txt", "bad_shards": "quarantine", "world_size": 2}
    with pytest.raises(ConfigError, match="drift apart"):
        iter(ShardStream(bad_urls, rank=0, **settings))
    first, second = (
        list(ShardStream(bad_urls, rank=rank, batch_size=8, **settings)) for rank in (0, 1)
    )
    assert len(first) == len(second) == 55


def test_too_many_bad_shards_end_the_stream(tmp_path: Path) -> None:
    url = write_source(tmp_path / "en", "en", 40, per_shard=1)
    for number in range(33):
        damage(url, number)
    stream = ShardStream({"en": url}, fields="txt", bad_shards="quarantine")
    with pytest.raises(ConfigError, match="too many shards are quarantined"):
        list(stream)


def _agree(rank: int, urls: dict[str, str], folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    stream = ShardStream(urls, fields="txt", bad_shards="quarantine", batch_size=4)
    batches = iter(stream)
    texts, states = [], []
    for _ in range(110):
        texts.append([b" ".join(text.split()[:2]).decode() for text in next(batches)])
        stream.agree()
        states.append(stream.state_dict())
    Path(folder, f"{rank}.json").write_text(json.dumps([texts, states]))
    torch.distributed.destroy_process_group()


def test_ranks_agree_on_what_they_leave_out(bad_urls: dict[str, str], tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(
        _agree, (bad_urls, str(tmp_path)), nprocs=2, start_method="fork"
    )
    (texts_0, states_0), (texts_1, states_1) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)
    )
    assert states_0 == states_1
    bad = {f"big {number}" for number in range(200, 400)}
    step = next(n for n, state in enumerate(states_0) if state["quarantined"])
    assert step < 20
    for texts in (texts_0, texts_1):
        assert bad.isdisjoint(chain.from_iterable(texts[step + 1 :]))
    # A new run from there goes on as this one did.
    again = ShardStream(
        bad_urls, fields="txt", bad_shards="quarantine", batch_size=4, rank=0, world_size=2
    )
    again.load_state_dict(states_0[step])
    rest = [[b" ".join(text.split()[:2]).decode() for text in texts] for texts in again]
    assert rest == texts_0[step + 1 :]


@pytest.mark.parametrize("bad_shards", ["refuse", "quarantine"])
def test_too_many_open_files_cost_no_shard(urls: dict[str, str], bad_shards: Any) -> None:
    stream = ShardStream(urls, batch_size=10, bad_shards=bad_shards)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    largest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (largest + 50, limits[1]))
    try:
        # The limit is one of numbers: all that are free below it are taken, but for four.
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(4):
            os.close(held.pop())
        with pytest.raises(StorageError, match=r"Too many open files.*ulimit -n"):
            list(stream)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in held:
            os.close(descriptor)
    assert stream.quarantined == ()
    assert sum(map(len, stream)) == EPOCH
