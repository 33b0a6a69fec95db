from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tarfile
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
import webdataset
from filelock import FileLock

from headrace.errors import ShardError
from headrace.shards import Manifest, Sample, ShardReader, ShardWriter, read_manifest
from headrace.shards.sample import make_sample

WriteSource = Callable[..., Manifest]
MakeSamples = Callable[..., list[Sample]]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_all(folder: Path, samples: Iterable[Sample], **options: object) -> None:
    with ShardWriter(str(folder), **options) as writer:  # type: ignore[arg-type]
        for sample in samples:
            writer.write(sample)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path, write_source: WriteSource) -> None:
    write_source(tmp_path / "a")
    write_source(tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert sorted(files(tmp_path / "a")) == [
        "manifest.json",
        *(f"shard-00000{n}.{suffix}" for n in range(3) for suffix in ("idx", "tar")),
    ]


def test_owner_mode_and_time_are_fixed(source: Path) -> None:
    with tarfile.open(source / "shard-000000.tar") as archive:
        marks = {(m.uid, m.gid, m.uname, m.gname, m.mode, m.mtime) for m in archive}
    assert marks == {(0, 0, "headrace", "headrace", 0o444, 0)}


def test_stock_webdataset_reads_the_shards(source: Path, make_samples: MakeSamples) -> None:
    tars = [str(path) for path in sorted(source.glob("*.tar"))]
    rows = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    assert [(row["__key__"], row["txt"], row["json"]) for row in rows] == [
        (sample.key, sample.text, sample.metadata) for sample in make_samples(50)
    ]


def test_the_bytes_are_those_of_webdatasets_own_writer(
    source: Path, make_samples: MakeSamples
) -> None:
    tar = BytesIO()
    settings = {"user": "headrace", "group": "headrace", "mode": 0o444, "mtime": 0}
    with webdataset.TarWriter(tar, encoder=False, compress=False, **settings) as writer:
        for sample in make_samples(20):
            writer.write({"__key__": sample.key, **sample.fields})
    assert (source / "shard-000000.tar").read_bytes() == tar.getvalue()


def test_manifest_counts_and_metadata(tmp_path: Path, make_samples: MakeSamples) -> None:
    with ShardWriter(str(tmp_path), name="dev", samples_per_shard=4, parent="p") as writer:
        writer.metadata["language"] = "hi"
        for sample in make_samples(9):
            writer.write(sample)
    manifest = read_manifest(str(tmp_path))
    assert manifest == writer.close()
    assert [(shard.name, shard.samples) for shard in manifest.shards] == [
        ("dev-000000.tar", 4),
        ("dev-000001.tar", 4),
        ("dev-000002.tar", 1),
    ]
    assert (manifest.metadata, manifest.parent) == ({"language": "hi"}, "p")


def test_duplicate_key_names_the_key_and_both_places(tmp_path: Path) -> None:
    samples = [make_sample(key, "x", {}, f"in.conll:{n}") for n, key in enumerate("abcdc")]
    with pytest.raises(ShardError) as caught:
        write_all(tmp_path, samples, samples_per_shard=2)
    (problem,) = caught.value.problems
    assert problem.value == "c"
    assert problem.where == "in.conll:4"
    assert "sample 0 of shard shard-000001.tar" in problem.what
    assert "manifest.json" not in files(tmp_path)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (Sample("a.b", {"txt": b"", "json": b"{}"}), "not a key"),
        (Sample("a/b", {"txt": b"", "json": b"{}"}), "not a key"),
        (Sample("", {"txt": b"", "json": b"{}"}), "not a key"),
        (Sample("a\n", {"txt": b"", "json": b"{}"}), "not a key"),
        (Sample("a" * 81, {"txt": b"", "json": b"{}"}), "not a key"),
        (Sample("a", {"txt": b""}), "fields of sample a"),
        (Sample("a", {"txt": b"", "json": b"", "png": b""}), "fields of sample a"),
    ],
)
def test_samples_that_are_refused(tmp_path: Path, sample: Sample, message: str) -> None:
    with pytest.raises(ShardError, match=message), ShardWriter(str(tmp_path)) as writer:
        writer.write(sample)


@pytest.mark.parametrize(
    "options",
    [{"name": "a/b"}, {"samples_per_shard": 0}, {"fields": ()}, {"fields": ("TXT",)}],
)
def test_options_that_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ShardError):
        ShardWriter(str(tmp_path / "out"), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_no_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="no samples"), ShardWriter(str(tmp_path)):
        pass
    assert "manifest.json" not in files(tmp_path)


def test_a_finished_source_is_only_replaced_on_request(
    source: Path, write_source: WriteSource
) -> None:
    before = files(source)
    with pytest.raises(ShardError, match="overwrite"):
        write_source(source, 10)
    assert files(source) == before
    (source / "notes.txt").write_text("mine")
    write_source(source, 10, overwrite=True)
    assert sorted(files(source)) == [
        "manifest.json",
        "notes.txt",
        "shard-000000.idx",
        "shard-000000.tar",
    ]


def test_tars_of_somebody_else_are_never_touched(tmp_path: Path, write_source: WriteSource) -> None:
    (tmp_path / "shard-000000.tar").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(ShardError, match=r"shard-000000\.tar"):
            write_source(tmp_path, overwrite=overwrite)
    assert files(tmp_path) == {"shard-000000.tar": b"mine"}


def test_two_writers_of_one_folder(tmp_path: Path, make_samples: MakeSamples) -> None:
    with ShardWriter(str(tmp_path)) as writer:
        with pytest.raises(ShardError, match="another process"):
            ShardWriter(str(tmp_path))
        writer.write(make_samples(1)[0])
    assert len(ShardReader(str(tmp_path))) == 1
    FileLock(tmp_path / ".build.lock").acquire(timeout=0)


def interrupted(folder: Path, samples: list[Sample], **options: object) -> None:
    """A build of shards of 20 that an exception ends after the given samples."""

    def then_stop() -> Iterator[Sample]:
        yield from samples
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_all(folder, then_stop(), samples_per_shard=20, **options)


def test_resume_keeps_finished_shards(
    tmp_path: Path, source: Path, make_samples: MakeSamples
) -> None:
    folder = tmp_path / "resumed"
    interrupted(folder, make_samples(45))
    assert not [name for name in files(folder) if name.startswith(".")]
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    assert sorted(stamps) == ["shard-000000.tar", "shard-000001.tar"]
    with ShardWriter(str(folder), samples_per_shard=20) as writer:
        assert writer.resumed_samples == 40
        for sample in make_samples(50):
            writer.write(sample)
    assert files(folder) == files(source)
    for name, stamp in stamps.items():
        assert (folder / name).stat().st_mtime_ns == stamp


@pytest.mark.parametrize("damage", ["delete tar", "delete idx", "truncate tar"])
def test_resume_makes_again_what_is_gone(
    tmp_path: Path, source: Path, make_samples: MakeSamples, write_source: WriteSource, damage: str
) -> None:
    folder = tmp_path / "resumed"
    interrupted(folder, make_samples(45))
    action, suffix = damage.split()
    path = folder / f"shard-000001.{suffix}"
    if action == "delete":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    write_source(folder)
    assert files(folder) == files(source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "other"}, "another input or with other options"),
        ({"per_shard": 10}, "samples per shard 20 -> 10"),
        ({"name": "dev"}, "name 'shard' -> 'dev'"),
        ({"count": 30}, "not those of the interrupted build"),
    ],
)
def test_a_changed_build_is_not_mixed_in(
    tmp_path: Path,
    make_samples: MakeSamples,
    write_source: WriteSource,
    change: dict[str, object],
    message: str,
) -> None:
    folder = tmp_path / "resumed"
    interrupted(folder, make_samples(45))
    with pytest.raises(ShardError, match=message) as caught:
        write_source(folder, **change)
    assert "--overwrite" in str(caught.value)
    assert "manifest.json" not in files(folder)
    write_source(folder, **change, overwrite=True)
    write_source(tmp_path / "fresh", **change)
    assert files(folder) == files(tmp_path / "fresh")


def test_changed_samples_are_seen_even_without_a_fingerprint(
    tmp_path: Path, make_samples: MakeSamples
) -> None:
    folder = tmp_path / "resumed"
    interrupted(folder, make_samples(45))
    changed = make_samples(50)
    changed[7] = make_sample(changed[7].key, "changed", changed[7].metadata)
    with pytest.raises(ShardError, match="not those of the interrupted build"):
        write_all(folder, changed, samples_per_shard=20)


def test_a_damaged_ledger_is_a_shard_error(tmp_path: Path, make_samples: MakeSamples) -> None:
    folder = tmp_path / "resumed"
    interrupted(folder, make_samples(45))
    (folder / "build-ledger.jsonl").write_text('{"fingerprint": ')
    with pytest.raises(ShardError, match="ledger of the interrupted build is damaged"):
        ShardWriter(str(folder), samples_per_shard=20)


def deadly_build(folder: Path, deadly: int) -> None:
    """A build of three shards that kills itself before rename number ``deadly``."""
    renames = 0
    replace = Path.replace

    def deadly_replace(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = deadly_replace  # type: ignore[method-assign,assignment]
    samples = [make_sample(f"k{n}", "text " * n, {"number": n}) for n in range(8)]
    write_all(folder, samples, samples_per_shard=3)


def build_and_kill(folder: Path, deadly: int) -> int | None:
    """The exit code of the build in a process of its own."""
    process = multiprocessing.get_context("fork").Process(
        target=deadly_build, args=(folder, deadly)
    )
    process.start()
    process.join()
    return process.exitcode


def test_kill_9_at_every_commit(tmp_path: Path) -> None:
    """Each rename is a commit: kill before each one in turn, then go on."""
    assert build_and_kill(tmp_path / "whole", 0) == 0
    renames = 11  # ledger, 3 x (tar, index, ledger), manifest
    assert build_and_kill(tmp_path / "more", renames + 1) == 0
    for deadly in range(1, renames + 1):
        folder = tmp_path / f"killed-{deadly}"
        assert build_and_kill(folder, deadly) == -signal.SIGKILL
        assert not (folder / "manifest.json").exists()
        tars = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
        ledger = folder / "build-ledger.jsonl"
        lines = ledger.read_text().splitlines()[1:] if ledger.exists() else []
        committed = [json.loads(line)["entry"]["name"] for line in lines]
        assert len(tars) - len(committed) in (0, 1), "at most the shard in flight is redone"
        assert build_and_kill(folder, 0) == 0
        assert files(folder) == files(tmp_path / "whole")
        for name in committed:
            assert (folder / name).stat().st_mtime_ns == tars[name]


def test_kill_9_while_overwriting_leaves_nothing_unaccounted_for(
    source: Path, write_source: WriteSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.shards import storage

    delete = storage.delete
    for survivors in range(1, 8):
        calls = 0

        def failing(url: str, limit: int = survivors) -> None:
            nonlocal calls
            calls += 1
            if calls > limit:
                raise KeyboardInterrupt
            delete(url)

        with monkeypatch.context() as patch:
            patch.setattr(storage, "delete", failing)
            with pytest.raises(KeyboardInterrupt):
                write_source(source, 10, overwrite=True)
        assert not (source / "manifest.json").exists()
        write_source(source, 50, overwrite=True)
    write_source(tmp_path / "fresh")
    assert files(source) == files(tmp_path / "fresh")
