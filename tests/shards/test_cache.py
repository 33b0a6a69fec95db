"""The cache of remote shards: keys, leases, eviction, full disks, killed processes, bad bytes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ShardError
from headrace.shards import Manifest, RetryPolicy, Sample, ShardCache, ShardReader
from headrace.shards.reader import _LEASED_SHARDS

WriteSource = Callable[..., Manifest]
SmallDisk = Callable[[str], list[str]]
QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.05, stall_timeout=5)

READ_ALL = """
import sys
from headrace.shards import ShardCache, ShardReader
url, folder, limit = sys.argv[1:4]
cache = ShardCache(folder, limit_bytes=int(limit) or None)
reader = ShardReader(url, cache=cache)
reader.prefetch(range(3))
print(*(sample.key for sample in reader))
"""
"""Reads a source through a cache in a process of its own."""


def start_reading(url: str, folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", READ_ALL, url, str(folder), str(limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def flip(path: Path, position: int, mask: int = 0x10) -> None:
    """Change a byte in place: whoever has the file mapped sees it."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ mask]))


def cached_tars(cache: ShardCache) -> dict[str, Path]:
    return {path.name: path for path in cache.folder.rglob("*.tar")}


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache")


@pytest.fixture
def url(web: Any, source: Path) -> str:
    return f"{web.url}/source"


@pytest.fixture
def clean(source: Path) -> list[Sample]:
    return list(ShardReader(str(source)))


def test_the_second_reader_needs_no_server_but_for_the_manifest(
    web: Any, url: str, clean: list[Sample], cache: ShardCache
) -> None:
    assert list(ShardReader(url, cache=cache)) == clean
    web.requests.clear()
    assert list(ShardReader(url, cache=ShardCache(cache.folder))) == clean
    assert web.gets(".tar") == web.gets(".idx") == 0


def test_keys_are_read_without_fetching_a_shard(
    url: str, source: Path, clean: list[Sample], cache: ShardCache
) -> None:
    reader = ShardReader(url, cache=cache)
    keys = [key for number in range(3) for key in reader.keys(number)]
    assert keys == [sample.key for sample in clean]
    assert not cached_tars(cache)
    # Where the source has no index, one is made of the shard, which is needed for that.
    (source / "shard-000001.idx").unlink()
    again = ShardReader(url, cache=cache)
    assert [key for number in range(3) for key in again.keys(number)] == keys
    assert list(cached_tars(cache)) == ["shard-000001.tar"]


def test_a_local_source_is_never_copied(
    source: Path, clean: list[Sample], cache: ShardCache
) -> None:
    reader = ShardReader(str(source), cache=cache)
    reader.prefetch([0, 1])
    assert list(reader) == clean
    assert not cache.folder.exists()


def test_equal_names_in_two_sources_do_not_meet(
    web: Any, tmp_path: Path, write_source: WriteSource, cache: ShardCache
) -> None:
    write_source(tmp_path / "en", 8, 4)
    write_source(tmp_path / "fr", 12, 4)
    readers = [ShardReader(f"{web.url}/{name}", cache=cache) for name in ("en", "fr")]
    for turn in (0, 1, 0):
        reader = readers[turn]
        assert len(list(reader)) == (8, 12)[turn]
        reader.close()
    assert len(list(cache.folder.rglob("shard-000000.tar"))) == 2


def test_two_processes_fetch_each_shard_once(
    web: Any, url: str, clean: list[Sample], cache: ShardCache
) -> None:
    web.pace = 0.02
    processes = [start_reading(url, cache.folder) for _ in range(3)]
    for process in processes:
        keys, errors = process.communicate()
        assert keys.split() == [sample.key for sample in clean], errors
    assert [web.gets(f"shard-00000{n}.tar") for n in range(3)] == [1, 1, 1]


def test_threads_of_one_process_fetch_each_shard_once(
    web: Any, url: str, clean: list[Sample], cache: ShardCache
) -> None:
    web.pace = 0.005
    found: list[list[Sample]] = []
    threads = [
        threading.Thread(target=lambda: found.append(list(ShardReader(url, cache=cache))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [clean] * 4
    assert [web.gets(f"shard-00000{n}.tar") for n in range(3)] == [1, 1, 1]


def test_kill_9_at_random_moments_of_a_download(
    web: Any, url: str, source: Path, clean: list[Sample], cache: ShardCache
) -> None:
    web.pace = 0.02
    moments = random.Random(5)
    for _ in range(6):
        process = start_reading(url, cache.folder)
        before = web.gets(".tar")
        while web.gets(".tar") == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.2)
        process.kill()
        process.communicate()
        for name, path in cached_tars(cache).items():
            assert path.read_bytes() == (source / name).read_bytes()
    web.pace = 0
    assert list(ShardReader(url, cache=ShardCache(cache.folder))) == clean
    assert not list((cache.folder / "incoming").iterdir())
    assert not list(cache.folder.rglob("*.part"))
    assert len(cached_tars(cache)) == 3


def test_what_a_killed_process_left_is_swept(
    web: Any, url: str, cache: ShardCache, source: Path
) -> None:
    """Also where nobody wants that shard any more."""
    web.faults = {"stall": 1.0}
    other = ShardReader(str(source))  # the manifest, from elsewhere
    process = multiprocessing.get_context("fork").Process(
        target=cache.acquire, args=(url, other.manifest.shards[2])
    )
    process.start()
    incoming = cache.folder / "incoming"
    while not (incoming.is_dir() and list(incoming.iterdir())):
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(incoming.iterdir())
    web.faults = {}
    ShardCache(cache.folder).acquire(url, other.manifest.shards[0]).release()
    assert not list(incoming.iterdir())


def test_the_least_recently_used_shards_go_first(
    web: Any, url: str, source: Path, cache: ShardCache
) -> None:
    sizes = [path.stat().st_size for path in sorted(source.glob("*.*")) if path.suffix != ".json"]
    limited = ShardCache(cache.folder, limit_bytes=sum(sizes) - 1000)
    reader = ShardReader(url, cache=limited)
    for number in (0, 1, 0):
        assert len(reader.shard(number)) == 20
        reader.close_shard(number)
        time.sleep(0.02)
    assert sorted(cached_tars(cache)) == ["shard-000000.tar", "shard-000001.tar"]
    reader.shard(2)
    assert sorted(cached_tars(cache)) == ["shard-000000.tar", "shard-000002.tar"]
    total = sum(path.stat().st_size for path in cache.folder.rglob("shard-*"))
    assert total <= sum(sizes) - 1000


def test_shards_in_use_are_never_evicted(
    web: Any,
    url: str,
    clean: list[Sample],
    cache: ShardCache,
    tmp_path: Path,
    write_source: WriteSource,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By this process, by another one, or through a map that only an open shard holds."""
    limited = ShardCache(cache.folder, limit_bytes=1)
    reader = ShardReader(url, cache=limited)
    shard = reader.shard(0)
    inode = cached_tars(cache)["shard-000000.tar"].stat().st_ino
    process = start_reading(url, cache.folder, limit=1)
    keys, errors = process.communicate()
    assert keys.split() == [sample.key for sample in clean]
    assert "more than its limit of 1" in errors + caplog.text
    assert cached_tars(cache)["shard-000000.tar"].stat().st_ino == inode
    assert web.gets("shard-000000.tar") == 1
    assert list(shard) == clean[:20]
    assert reader.shard(1)[0] == clean[20]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    reader.close()
    write_source(tmp_path / "other", 4, name="other")
    ShardReader(f"{web.url}/other", cache=limited).shard(0)
    assert sorted(cached_tars(cache)) == ["other-000000.tar"]


def test_files_that_the_cache_did_not_make_stay(
    web: Any, url: str, clean: list[Sample], cache: ShardCache
) -> None:
    """Not even where they lie in its folder, or look like an entry."""
    look_alike = cache.folder / ("0" * 32) / "mine.txt"
    for path in (cache.folder / "notes.tar", cache.folder / "en" / "000000.tar", look_alike):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    limited = ShardCache(cache.folder, limit_bytes=1)
    reader = ShardReader(url, cache=limited)
    for number in range(3):
        reader.shard(number)
        reader.close_shard(number)
    assert (cache.folder / "notes.tar").read_bytes() == b"mine"
    assert (cache.folder / "en" / "000000.tar").read_bytes() == b"mine"
    assert look_alike.read_bytes() == b"mine"


def test_a_corrupt_copy_is_fetched_again_once(
    web: Any, url: str, source: Path, clean: list[Sample], cache: ShardCache
) -> None:
    list(ShardReader(url, cache=cache))
    tar = cached_tars(cache)["shard-000001.tar"]
    held = ShardReader(url, cache=cache)
    assert held.shard(1).keys  # mapped, nothing read yet
    flip(tar, 3000)
    web.requests.clear()
    assert list(ShardReader(url, cache=cache)) == clean
    assert held.shard(1)[3] == clean[23]
    assert web.gets("shard-000001.tar") == 1
    assert tar.read_bytes() == (source / tar.name).read_bytes()
    # The index beside it is as good as the tar.
    for damage in ("flip", "truncate", "delete"):
        index = tar.with_suffix(".idx")
        if damage == "flip":
            flip(index, 100)
        elif damage == "truncate":
            index.write_bytes(index.read_bytes()[:50])
        else:
            index.unlink()
        assert list(ShardReader(url, cache=cache)) == clean
        assert index.read_bytes() == (source / index.name).read_bytes()


def test_a_corrupt_copy_is_not_served_where_no_other_can_be_had(
    web: Any, url: str, clean: list[Sample], cache: ShardCache
) -> None:
    """Neither in this run nor in the next ones."""
    list(ShardReader(url, cache=cache, retry=QUICK))
    flip(cached_tars(cache)["shard-000001.tar"], 3000)
    readers = [ShardReader(url, cache=cache, retry=QUICK) for _ in range(3)]
    web.statuses["source/shard-000001.tar"] = 403
    for reader in readers:
        with pytest.raises(ShardError, match=r"shard-000001\.tar: no permission"):
            list(reader)
        assert list(reader.shard(0)) == clean[:20]
    del web.statuses["source/shard-000001.tar"]
    assert list(ShardReader(url, cache=cache)) == clean


def test_a_truncated_copy_is_fetched_again(
    web: Any, url: str, clean: list[Sample], cache: ShardCache
) -> None:
    list(ShardReader(url, cache=cache))
    os.truncate(cached_tars(cache)["shard-000002.tar"], 4096)
    assert list(ShardReader(url, cache=cache)) == clean


def test_prefetched_shards_are_there_when_they_are_used(
    web: Any, url: str, clean: list[Sample], cache: ShardCache
) -> None:
    reader = ShardReader(url, cache=cache)
    reader.prefetch(range(3))
    reader.prefetch(range(3))
    while len(cached_tars(cache)) < 3:
        time.sleep(0.01)
    web.requests.clear()
    assert list(reader) == clean
    assert not web.requests


def test_what_is_fetched_ahead_is_bounded_and_let_go(
    web: Any, tmp_path: Path, write_source: WriteSource, cache: ShardCache
) -> None:
    write_source(tmp_path / "many", _LEASED_SHARDS + 8, 1)
    reader = ShardReader(f"{web.url}/many", cache=cache)
    reader.prefetch(range(_LEASED_SHARDS + 8))
    while len(cached_tars(cache)) < _LEASED_SHARDS:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(cached_tars(cache)) == _LEASED_SHARDS
    # What waits unused makes way for what is wanted now, and may be evicted then.
    reader.prefetch([_LEASED_SHARDS])
    assert reader.shard(_LEASED_SHARDS)[0].key == f"k{_LEASED_SHARDS:05d}"
    reader.prefetch(range(_LEASED_SHARDS + 1, _LEASED_SHARDS + 8))
    for number in range(_LEASED_SHARDS + 8):
        reader.close_shard(number)
    reader.close()
    limited = ShardCache(cache.folder, limit_bytes=1)
    write_source(tmp_path / "other", 10, 1, name="other")
    other = ShardReader(f"{web.url}/other", cache=limited)
    for number in range(10):
        time.sleep(0.02)
        other.shard(number)
        other.close_shard(number)
    assert list(cached_tars(cache)) == ["other-000009.tar"]


def test_an_error_of_prefetching_shows_when_the_shard_is_used(
    web: Any, url: str, clean: list[Sample], cache: ShardCache
) -> None:
    reader = ShardReader(url, cache=cache, retry=QUICK)
    web.statuses["source/shard-000001.tar"] = 403
    reader.prefetch(range(3))
    assert list(reader.shard(0)) == clean[:20]
    assert list(reader.shard(2)) == clean[40:]
    with pytest.raises(ShardError, match="no permission"):
        reader.shard(1)
    del web.statuses["source/shard-000001.tar"]
    assert list(reader.shard(1)) == clean[20:40]


def test_a_process_ends_though_a_download_stalls(
    web: Any, url: str, cache: ShardCache, source: Path
) -> None:
    code = READ_ALL.replace("print(*(sample.key for sample in reader))", "print('end')")
    reader = ShardReader(str(source))
    assert len(reader.manifest.shards) == 3
    process = subprocess.Popen(
        [sys.executable, "-c", "import time\n" + code + "time.sleep(0.3)", url, cache.folder, "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    while not web.gets("manifest.json"):
        time.sleep(0.005)
    web.faults = {"stall": 1.0}
    assert process.communicate(timeout=25)[0].split() == ["end"]


def read_in_child(reader: ShardReader, cache: ShardCache, keys: Any) -> None:
    reader.prefetch(range(3))
    while len(cached_tars(cache)) < 3:
        time.sleep(0.01)
    keys.put([sample.key for sample in reader])


def test_readers_travel_to_workers(web: Any, url: str, clean: list[Sample], tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", threads=1)
    reader = ShardReader(url, cache=cache, retry=QUICK)
    web.pace = 0.01
    reader.prefetch([0])  # a fork while a thread fetches
    context = multiprocessing.get_context("fork")
    keys = context.Queue()
    process = context.Process(target=read_in_child, args=(reader, cache, keys))
    process.start()
    assert keys.get(timeout=60) == [sample.key for sample in clean]
    process.join()
    assert list(reader) == clean
    assert list(pickle.loads(pickle.dumps(reader))) == clean
    assert web.gets(".tar") == 3


def test_a_folder_that_cannot_be_used(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ShardError, match="a file is in the way"):
        ShardCache(tmp_path / "file")
    with pytest.raises(ShardError, match="not a folder on this machine"):
        ShardCache("s3://bucket/cache")
    cache = ShardCache(tmp_path / "later")
    (tmp_path / "later").write_bytes(b"")
    with pytest.raises(ShardError, match="shard cache cannot be used"):
        ShardReader(url, cache=cache).shard(0)


def test_a_disk_that_fills_up(
    web: Any,
    tmp_path: Path,
    write_source: WriteSource,
    small_disk: SmallDisk,
) -> None:
    """Shards that are not in use make room; nothing half-written is ever served."""
    write_source(tmp_path / "many", 150, 15)
    expected = [sample.key for sample in ShardReader(str(tmp_path / "many"))]
    size = sum(path.stat().st_size for path in (tmp_path / "many").glob("*.tar"))
    assert size > 200_000
    code = READ_ALL.replace(
        "print(*(sample.key for sample in reader))",
        "for n in range(10):\n    print(*reader.shard(n).keys)\n    reader.close_shard(n)",
    ).replace("reader.prefetch(range(3))", "")
    prefix = small_disk("100k")
    for _ in range(2):
        done = subprocess.run(
            [*prefix, sys.executable, "-c", code, f"{web.url}/many", tmp_path / "small", "0"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == expected
        assert "is full: old shards went" in done.stderr
        assert "shard-000009.tar" in done.stderr
        assert "shard-000000.tar" not in done.stderr
        assert "incoming/" not in done.stderr


def test_a_disk_that_is_full_of_shards_in_use(
    web: Any, tmp_path: Path, write_source: WriteSource, small_disk: SmallDisk
) -> None:
    write_source(tmp_path / "many", 150, 15)
    done = subprocess.run(
        [
            *small_disk("100k"),
            sys.executable,
            "-c",
            READ_ALL,
            f"{web.url}/many",
            tmp_path / "small",
            "0",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    message = "the shard cache cannot be used: No space left on device"
    said = [line for line in done.stderr.splitlines() if "\t" not in line]  # behind it: the files
    assert message in said[-1]
    assert "Choose a folder with space" in done.stderr


def test_verify_where_no_shard_fits_on_the_temporary_disk(
    web: Any, tmp_path: Path, write_source: WriteSource, small_disk: SmallDisk
) -> None:
    write_source(tmp_path / "large", 60, 60)
    code = "import sys; from headrace.cli import main; sys.exit(main(['verify', sys.argv[1]]))"
    folder = tmp_path / "small"
    done = subprocess.run(
        [
            *small_disk("100k"),
            "env",
            f"TMPDIR={folder}",
            sys.executable,
            "-c",
            code,
            f"{web.url}/large",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"{folder}: cannot write it: No space left on device" in done.stdout
    assert "Traceback" not in done.stderr


READ_AT_RANDOM = """
import random, sys
from headrace.shards import ShardCache, ShardReader
url, folder, limit, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
draw = random.Random(seed)
cache = ShardCache(folder, limit_bytes=limit)
reader = ShardReader(url, cache=cache)
shards = len(reader.manifest.shards)
for _ in range(60):
    number = draw.randrange(shards)
    if draw.random() < 0.3:
        reader.prefetch([draw.randrange(shards) for _ in range(3)])
    shard = reader.shard(number)
    assert [sample.metadata["number"] for sample in shard] == [2 * number, 2 * number + 1]
    if draw.random() < 0.7:
        reader.close_shard(number)
    if draw.random() < 0.05:
        reader.close()
print("read")
"""


def test_many_processes_in_a_small_cache_two_of_which_are_killed(
    web: Any, tmp_path: Path, write_source: WriteSource, cache: ShardCache
) -> None:
    """Each reads any shards, fetches ahead, evicts what others have just let go."""
    write_source(tmp_path / "many", 24, 2)
    size = sum(path.stat().st_size for path in (tmp_path / "many").glob("*.tar")) // 12

    def start(seed: int) -> subprocess.Popen[str]:
        arguments = [f"{web.url}/many", str(cache.folder), str(4 * size), str(seed)]
        return subprocess.Popen(
            [sys.executable, "-c", READ_AT_RANDOM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    processes = [start(seed) for seed in range(4)]
    for victim in processes[:2]:
        before = web.gets(".tar")
        while web.gets(".tar") < before + 5 and victim.poll() is None:
            time.sleep(0.005)
        victim.kill()
        victim.communicate()
    for process in [*processes[2:], start(4)]:
        output, errors = process.communicate()
        assert output.split() == ["read"], errors
        assert "Traceback" not in errors
    assert list(ShardReader(f"{web.url}/many", cache=ShardCache(cache.folder))) == list(
        ShardReader(str(tmp_path / "many"))
    )
    assert not list((cache.folder / "incoming").iterdir())
