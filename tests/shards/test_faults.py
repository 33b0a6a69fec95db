"""Faults of a web server: the samples are those of the clean source, or the error is clear."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import Problem, ShardError
from headrace.shards import Manifest, RetryPolicy, Sample, ShardCache, ShardReader, storage
from headrace.shards.index import BLOCK_BYTES, build_index, read_index

WriteSource = Callable[..., Manifest]
QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.05, stall_timeout=0.3)


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache")


@pytest.fixture
def clean(source: Path) -> list[Sample]:
    return list(ShardReader(str(source)))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    "fault", ["status", "reset", "truncated", "short", "stall", "garbled", "no ranges"]
)
def test_the_stream_is_that_of_the_clean_source(
    fault: str,
    cached: bool,
    web: Any,
    source: Path,
    clean: list[Sample],
    cache: ShardCache,
    caplog: pytest.LogCaptureFixture,
) -> None:
    web.delay = 0.02
    web.changing_etag = True
    if fault == "no ranges":
        web.ranges = False
    else:
        web.faults = {fault: 0.25}
    reader = ShardReader(f"{web.url}/source", cache=cache if cached else None, retry=QUICK)
    assert list(reader) == clean
    if fault != "no ranges":
        assert web.injected[fault] > 0
        assert any(web.url in record.message for record in caplog.records)
    assert all(record.levelno == logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("cached", [True, False])
def test_some_requests_in_a_hundred_fail(
    cached: bool, web: Any, tmp_path: Path, write_source: WriteSource, cache: ShardCache
) -> None:
    """Behind a delay of 20 ms; enough shards for several faults."""
    write_source(tmp_path / "many", 80, 1)
    web.delay = 0.02
    web.faults = dict.fromkeys(("status", "reset", "truncated", "short", "stall"), 0.005)
    reader = ShardReader(f"{web.url}/many", cache=cache if cached else None, retry=QUICK)
    reader.prefetch(range(16))
    assert list(reader) == list(ShardReader(str(tmp_path / "many")))
    assert web.injected.total() > 0


def test_a_server_that_stalls_for_ever(web: Any, source: Path, cache: ShardCache) -> None:
    web.faults = {"stall": 1.0}
    impatient = RetryPolicy(attempts=2, first_wait=0.01, stall_timeout=0.1)
    with pytest.raises(ShardError, match="no answer in time") as caught:
        ShardReader(f"{web.url}/source", cache=cache, retry=impatient)
    assert f"{web.url}/source/manifest.json" in str(caught.value)
    assert web.gets("manifest.json") == 2


def test_a_server_that_sends_a_little_now_and_then(web: Any, source: Path) -> None:
    web.pace = 0.1
    policy = RetryPolicy(attempts=2, first_wait=0.01, stall_timeout=5, request_timeout=0.2)
    with pytest.raises(ShardError, match="no answer in time"):
        storage.read_bytes(f"{web.url}/source/shard-000000.tar", policy)


def test_the_deadline_ends_the_attempts(web: Any, source: Path) -> None:
    web.statuses["source/manifest.json"] = 503
    policy = RetryPolicy(attempts=10_000, deadline=0.3, first_wait=0.05, longest_wait=0.1)
    with pytest.raises(ShardError, match="HTTP status 503"):
        ShardReader(f"{web.url}/source", retry=policy)
    assert 1 < web.gets("manifest.json") < 1000


@pytest.mark.parametrize(
    ("status", "message"), [(403, "no permission"), (401, "no permission"), (404, "no manifest")]
)
def test_what_does_not_pass_is_not_tried_again(
    status: int, message: str, web: Any, source: Path
) -> None:
    web.statuses["source/manifest.json"] = status
    with pytest.raises(ShardError, match=message):
        ShardReader(f"{web.url}/source", retry=QUICK)
    assert web.gets("source/manifest.json") == 1


def test_each_retry_is_logged_once_with_url_and_reason(
    web: Any, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{web.url}/source/shard-000001.idx"
    web.statuses["source/shard-000001.idx"] = 500
    with pytest.raises(ShardError):
        storage.read_bytes(url, RetryPolicy(attempts=3, first_wait=0.01))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    for number, record in enumerate(caplog.records, 2):
        assert record.getMessage().startswith(f"{url}: 500")
        assert f"attempt {number} of 3" in record.getMessage()


def test_faults_on_the_way_do_not_count_against_the_content(web: Any, source: Path) -> None:
    """Seven broken answers, then two damaged ones, then the file."""
    url = f"{web.url}/source/shard-000001.idx"
    content = (source / "shard-000001.idx").read_bytes()
    bad = [b"x" * 10] * 2

    def fails_at_first(data: bytes) -> bytes:
        calls.append(len(data))
        if len(calls) <= 7:
            raise ConnectionResetError
        if len(calls) <= 9:
            raise ShardError(Problem("the content is damaged", url))
        return data

    calls: list[int] = []
    assert storage.read_parsed(url, fails_at_first, QUICK) == content
    assert len(calls) == 10
    web.replaced["source/shard-000001.idx"] = [*bad, b"y" * 10]
    with pytest.raises(ShardError, match="index is damaged"):
        read_index(f"{web.url}/source/shard-000001.tar", QUICK)
    web.replaced["source/shard-000001.idx"] = bad
    assert len(read_index(f"{web.url}/source/shard-000001.tar", QUICK)) == 20


def test_a_large_source_is_looked_up_all_at_once(
    web: Any, tmp_path: Path, write_source: WriteSource
) -> None:
    write_source(tmp_path / "many", 60, 1)
    web.delay = 0.02
    ShardReader(f"{web.url}/many", retry=QUICK)
    assert sum(count for (method, _), count in web.requests.items() if method == "HEAD") == 120
    assert web.most_at_once >= 16


def test_a_wrong_size_is_asked_for_again(web: Any, source: Path) -> None:
    web.wrong_heads = 1
    ShardReader(f"{web.url}/source", retry=QUICK)
    web.wrong_heads = 100
    with pytest.raises(ShardError, match="the shard is truncated") as caught:
        ShardReader(f"{web.url}/source", retry=QUICK)
    assert len(caught.value.problems) == 3
    web.wrong_heads = -1
    with pytest.raises(ShardError, match="does not tell the size"):
        ShardReader(f"{web.url}/source", retry=QUICK)


def test_an_index_is_made_in_the_download(
    web: Any, source: Path, clean: list[Sample], cache: ShardCache
) -> None:
    """Without any index beside the tars; the cache has the bytes that the writer's index had."""
    written = {path.name: path.read_bytes() for path in source.glob("*.idx")}
    for name in written:
        (source / name).unlink()
    with pytest.raises(ShardError, match="index is missing"):
        ShardReader(f"{web.url}/source", retry=QUICK)
    assert list(ShardReader(f"{web.url}/source", cache=cache, retry=QUICK)) == clean
    assert {path.name: path.read_bytes() for path in cache.folder.rglob("*.idx")} == written
    assert all(web.gets(f"shard-00000{n}.tar") == 1 for n in range(3))


def test_a_download_in_many_pieces(
    web: Any, big_source: Path, cache: ShardCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an index only the wrong piece is fetched again, without one the shard."""
    monkeypatch.setattr(storage, "PIECE_BYTES", BLOCK_BYTES)
    intact = (big_source / "shard-000000.tar").read_bytes()
    garbled = bytes([intact[0] ^ 1]) + intact[1:]
    expected = list(ShardReader(str(big_source)))
    pieces = -(-len(intact) // BLOCK_BYTES)
    web.replaced["big/shard-000000.tar"] = [garbled]
    assert list(ShardReader(f"{web.url}/big", cache=cache, retry=QUICK)) == expected
    assert web.gets("shard-000000.tar") == pieces + 1
    (big_source / "shard-000000.idx").unlink()
    web.requests.clear()
    web.replaced["big/shard-000000.tar"] = [garbled]
    other = ShardCache(cache.folder / "other")
    assert list(ShardReader(f"{web.url}/big", cache=other, retry=QUICK)) == expected
    assert web.gets("shard-000000.tar") == 2 * pieces


def replace_shard(source: Path) -> Path:
    """Another shard of the same length, with a good index of its own."""
    tar = source / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes().replace(b"rd12", b"rd13"))
    build_index(str(tar))
    return tar


def test_a_shard_replaced_by_one_of_the_same_length(
    web: Any, source: Path, clean: list[Sample], cache: ShardCache
) -> None:
    url = f"{web.url}/source"
    open_before = ShardReader(url, retry=QUICK)
    assert open_before.shard(1)[0] == clean[20]
    cached = ShardReader(url, cache=cache, retry=QUICK)
    assert cached.shard(1)[0] == clean[20]
    tar = replace_shard(source)
    with pytest.raises(ShardError, match="differ in the hash of the tar"):
        list(ShardReader(url, retry=QUICK))
    # A verified copy is what the manifest says, whatever the server has now.
    assert list(ShardReader(url, cache=cache, retry=QUICK)) == clean
    for with_index in (True, False):
        if not with_index:
            tar.with_suffix(".idx").unlink()
        empty = ShardReader(url, cache=ShardCache(cache.folder / "empty"), retry=QUICK)
        with pytest.raises(ShardError, match="not the one that the manifest names") as caught:
            empty.shard(1)
        assert f"{url}/shard-000001.tar" in str(caught.value)


def test_a_shard_that_changes_in_mid_epoch(
    web: Any, big_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{web.url}/big"
    reader = ShardReader(url, retry=QUICK)
    shard = reader.shard(0)
    assert shard[0].metadata["number"] == 0
    tar = big_source / "shard-000000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"rd12", b"rd13"))
    with pytest.raises(ShardError, match=r"shard-000000\.tar offset \d+: the bytes .* corrupt"):
        shard[len(shard) - 1]


def test_a_manifest_that_was_edited(web: Any, source: Path, cache: ShardCache) -> None:
    """Also one whose fingerprint was made to fit: the indexes and the tars tell."""
    path = source / "manifest.json"
    document = json.loads(path.read_text())
    document["shards"][1]["hash"] = "0" * 32
    path.write_text(json.dumps(document))
    with pytest.raises(ShardError, match="changed by hand"):
        ShardReader(f"{web.url}/source", retry=QUICK)
    entries = document["shards"]
    from headrace.shards import ShardEntry, write_manifest

    write_manifest(str(source), Manifest(1, tuple(ShardEntry(**entry) for entry in entries)))
    with pytest.raises(ShardError, match="differ in the hash of the tar"):
        list(ShardReader(f"{web.url}/source", retry=QUICK))
    with pytest.raises(ShardError, match="not the one that the manifest names"):
        list(ShardReader(f"{web.url}/source", cache=cache, retry=QUICK))
    assert not list(cache.folder.rglob("shard-000001.tar"))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_corpus_on_a_faulty_server_reads_as_it_is(
    ranges: bool, web: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams over remote files go through the same retries, wherever one seeks."""
    content = bytes(number * number % 251 for number in range(60_000))
    (tmp_path / "corpus.bin").write_bytes(content)
    monkeypatch.setattr(storage, "PIECE_BYTES", 4096)
    web.ranges = ranges
    web.faults = dict.fromkeys(("status", "reset", "truncated", "short"), 0.03)
    web.replaced["corpus.bin"] = [content[:30_000]]  # half of it, as if that were all
    url = f"{web.url}/corpus.bin"
    with storage.open_for_reading(url) as file:
        assert file.read(2) == content[:2]
        file.seek(0)
        assert file.read() == content
        file.seek(-5000, 2)
        assert file.read(100) == content[-5000:-4900]
        assert file.seek(59_999) == 59_999
        assert file.read() == content[59_999:]
        assert file.read() == b""
    with storage.open_local(url) as file:
        assert file.read() == content
