"""Shards between Headrace and the other tools that read and write them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import webdataset
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from headrace.shards import Manifest, Sample, ShardReader
from headrace.shards.adopt import index_source
from headrace.stream import ShardStream

WriteSource = Callable[..., Manifest]
Contents = dict[str, dict[str, bytes]]


def as_webdataset_reads(folder: Path) -> Contents:
    tars = sorted(str(path) for path in folder.glob("*.tar"))
    return {
        row["__key__"]: {name: row[name] for name in row if not name.startswith("__")}
        for row in webdataset.WebDataset(tars, shardshuffle=False, empty_check=False)
    }


def as_a_stream_reads(url: object) -> Contents:
    samples = list(ShardStream({"en": str(url)}))
    contents = {sample.key: dict(sample.fields) for sample in samples}
    assert len(contents) == len(samples)
    return contents


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """What webdataset wrote: samples whose members differ in number and order."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=20, verbose=0) as writer:
        for number in range(50):
            row: dict[str, Any] = {"__key__": f"set/k{number:03d}", "txt": f"text {number}"}
            if number % 3:
                row["json"] = {"number": number}
            if number % 5 == 0:
                row = {"__key__": row["__key__"], "seg.bin": b"", "cls": number, **row}
            writer.write(row)
    index_source(str(folder))
    return folder


def test_a_stream_of_what_webdataset_wrote(theirs: Path) -> None:
    expected = as_webdataset_reads(theirs)
    assert len(expected) == 50
    assert as_a_stream_reads(theirs) == expected
    assert len({tuple(fields) for fields in expected.values()}) == 4
    texts = ShardStream({"en": str(theirs)}, fields="txt")
    assert sorted(texts) == sorted(fields["txt"] for fields in expected.values())


def test_what_one_sample_lacks_is_named(theirs: Path) -> None:
    with pytest.raises(Exception, match=r"sample set/k\d+: the sample has no field json"):
        list(ShardStream({"en": str(theirs)}, fields=["txt", "json"]))


def test_webdataset_reads_what_a_stream_reads(source: Path) -> None:
    ours = as_a_stream_reads(source)
    assert ours == as_webdataset_reads(source)
    assert ours == {sample.key: dict(sample.fields) for sample in ShardReader(str(source))}


def members(samples: Iterable[tuple[str, bytes]]) -> Iterable[tuple[str, bytes]]:
    return chain.from_iterable(
        ((f"{key}.txt", text), (f"{key}.json", b"{}")) for key, text in samples
    )


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_stream_of_what_tarfile_wrote(tmp_path: Path, form: int) -> None:
    # Long enough for a prefix in ustar, and for a longer name in the two others.
    stem = "/".join(["folder" * 8] * (2 if form == tarfile.USTAR_FORMAT else 4))
    texts = {f"{stem}/{number:04d}": f"text {number}".encode() for number in range(40)}
    with tarfile.open(tmp_path / "a.tar", "w", format=form) as archive:
        for name, data in members(texts.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    index_source(str(tmp_path))
    expected = {key: {"txt": text, "json": b"{}"} for key, text in texts.items()}
    assert as_a_stream_reads(tmp_path) == expected == as_webdataset_reads(tmp_path)


def test_a_stream_of_what_gnu_tar_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in members((f"{number:04d}", b"t%d" % number) for number in range(40)):
        (folder / name).write_bytes(data)
    tars = tmp_path / "tars"
    tars.mkdir()
    names = sorted(path.name for path in folder.iterdir())
    subprocess.run(["tar", "-cf", tars / "a.tar", "-C", folder, *names], check=True)
    index_source(str(tars))
    assert as_a_stream_reads(tars) == as_webdataset_reads(tars)
    assert as_a_stream_reads(tars)["0007"] == {"json": b"{}", "txt": b"t7"}


def fields_of(samples: list[Sample]) -> list[dict[str, bytes]]:
    return [dict(sample.fields) for sample in samples]


@pytest.mark.parametrize("loader_type", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("workers", [0, 2])
def test_whole_samples_travel_through_the_loaders(
    theirs: Path, loader_type: type[DataLoader[Any]], workers: int
) -> None:
    clean = list(ShardStream({"en": str(theirs)}, batch_size=8))
    stream = ShardStream({"en": str(theirs)}, batch_size=8)
    loader = loader_type(stream, batch_size=None, num_workers=workers)
    assert list(loader) == clean
    as_dicts = loader_type(stream, batch_size=None, num_workers=workers, collate_fn=fields_of)
    stream.set_epoch(0)
    assert list(as_dicts) == [fields_of(batch) for batch in clean]
