"""Streams of remote sources: through the cache, ahead of the reading, around faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from headrace.errors import StorageError
from headrace.shards import Manifest, RetryPolicy, Shard, ShardReader
from headrace.shards.cache import ShardCache
from headrace.stream import ShardStream

WriteSource = Callable[..., Manifest]


@pytest.fixture
def sources(tmp_path: Path, write_source: WriteSource) -> dict[str, str]:
    write_source(tmp_path / "en", 300, 12)
    write_source(tmp_path / "hi", 90, 12)
    return {name: str(tmp_path / name) for name in ("en", "hi")}


def on_the_web(web, sources: dict[str, str]) -> dict[str, str]:
    return {name: f"{web.url}/{name}" for name in sources}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_from_the_web_is_the_local_one_whatever_the_faults(
    web, sources: dict[str, str], tmp_path: Path, workers: int
) -> None:
    clean = list(ShardStream(sources, batch_size=16, temperature=0.5))
    web.delay = 0.002
    web.faults = {"status": 0.05, "reset": 0.05, "truncated": 0.05, "garbled": 0.02}
    stream = ShardStream(
        on_the_web(web, sources),
        batch_size=16,
        temperature=0.5,
        cache=ShardCache(tmp_path / "cache"),
    )
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    assert list(loader) == clean
    assert sum(web.injected.values()) > 3
    # The second time nothing is fetched but the manifests.
    web.faults = {}
    fetched = web.gets(".tar")
    again = ShardStream(
        on_the_web(web, sources),
        batch_size=16,
        temperature=0.5,
        cache=ShardCache(tmp_path / "cache"),
    )
    assert list(again) == clean
    assert web.gets(".tar") == fetched


def test_the_state_holds_for_local_and_remote_sources(
    web, sources: dict[str, str], tmp_path: Path
) -> None:
    local = ShardStream(sources, batch_size=16)
    remote = ShardStream(
        on_the_web(web, sources), batch_size=16, cache=ShardCache(tmp_path / "cache")
    )
    remote.load_state_dict(local.state_at(9))
    assert list(remote) == list(local)[9:]


def test_remote_sources_get_a_cache_in_the_working_folder(
    web, sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    list(ShardStream(on_the_web(web, sources)))
    assert len(list((tmp_path / ".headrace" / "shards").rglob("*.tar"))) == 25 + 8


class Watched(ShardReader):
    """Notes which shards are asked for ahead, and which are opened."""

    asked: set[int]
    opened: list[tuple[int, bool]]

    def prefetch(self, numbers: Iterable[int]) -> None:
        numbers = list(numbers)
        self.__dict__.setdefault("asked", set()).update(numbers)
        super().prefetch(numbers)

    def shard(self, number: int) -> Shard:
        opened = self.__dict__.setdefault("opened", [])
        if number not in [shard for shard, _ in opened]:
            opened.append((number, number in self.asked))
        return super().shard(number)


def test_shards_are_asked_for_before_they_are_read(
    web, tmp_path: Path, write_source: WriteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.stream.dataset.CHUNK", 32)
    write_source(tmp_path / "en", 3000, 100)
    cache = ShardCache(tmp_path / "cache")
    readers = {"en": Watched(f"{web.url}/en", cache=cache)}
    stream = ShardStream(readers, shard_window=3)
    ahead = []
    for number, _ in enumerate(stream):
        if number % 100 == 0:
            ahead.append(len(readers["en"].asked) - len(readers["en"].opened))
    assert len(readers["en"].opened) == 30
    assert all(was_asked for _, was_asked in readers["en"].opened)
    # About a window of three ahead, or the next block of the mixture: never the whole source.
    assert 3 <= max(ahead) <= 12


def test_a_shard_that_is_gone_is_quarantined(web, sources: dict[str, str], tmp_path: Path) -> None:
    urls = on_the_web(web, sources)
    stream = ShardStream(
        urls, batch_size=10, bad_shards="quarantine", cache=ShardCache(tmp_path / "cache")
    )
    web.statuses["hi/shard-000002.tar"] = 404
    samples = sum(len(batch) for batch in stream)
    assert stream.quarantined == ("hi/shard-000002.tar",)
    assert samples == 390 - 12
    # From then on nobody asks for it.
    asked = web.gets("hi/shard-000002.tar")
    assert sum(len(batch) for batch in stream) == 390 - 12
    assert web.gets("hi/shard-000002.tar") == asked > 0


def test_a_server_that_fails_costs_no_shard(web, sources: dict[str, str], tmp_path: Path) -> None:
    quick = RetryPolicy(attempts=2, first_wait=0.01)
    cache = ShardCache(tmp_path / "cache")
    readers = {
        name: ShardReader(url, cache=cache, retry=quick)
        for name, url in on_the_web(web, sources).items()
    }
    stream = ShardStream(readers, batch_size=10, bad_shards="quarantine")
    clean = list(ShardStream(sources, batch_size=10))
    web.statuses["hi/shard-000002.tar"] = 503
    batches = []
    with pytest.raises(StorageError, match="HTTP status 503"):
        batches.extend(stream)
    assert stream.quarantined == ()
    # When it is well again, the stream goes on with what it had not yielded.
    del web.statuses["hi/shard-000002.tar"]
    again = ShardStream(readers, batch_size=10, bad_shards="quarantine")
    again.load_state_dict(stream.state_dict())
    assert again.state_dict() == stream.state_dict()
    batches += again
    assert batches == clean[: len(batches)]
    assert len(batches) == len(clean)
    assert again.quarantined == ()


def test_a_server_that_failed_while_shards_were_fetched_ahead_is_asked_again(
    web, sources: dict[str, str], tmp_path: Path
) -> None:
    quick = RetryPolicy(attempts=2, first_wait=0.01)
    url = on_the_web(web, sources)["en"]
    reader = ShardReader(url, cache=ShardCache(tmp_path / "cache"), retry=quick)
    web.statuses = {f"en/shard-{number:06d}.tar": 503 for number in range(5)}
    reader.prefetch(range(5))
    for coming in reader._coming.values():
        assert isinstance(coming.exception(60), StorageError)
    with pytest.raises(StorageError, match="503"):
        reader.shard(0)
    web.statuses = {}
    assert [reader.shard(number)[0].key for number in range(5)] == [
        ShardReader(sources["en"]).shard(number)[0].key for number in range(5)
    ]
