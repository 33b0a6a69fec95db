from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.errors import ShardError
from headrace.shards import Manifest, Sample, ShardCache, ShardReader, storage
from headrace.shards.adopt import index_source
from headrace.shards.remote import version_of
from headrace.shards.verify import verify_source

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An S3 bucket on this machine, found by the variables of the AWS clients."""
    import boto3
    import s3fs

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    boto3.client("s3").create_bucket(Bucket="corpus")
    yield f"s3://corpus/{tmp_path.name}/train"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_write_read_verify_index_and_overwrite(
    bucket: str,
    source: Path,
    write_source: Callable[..., Manifest],
    make_samples: Callable[..., list[Sample]],
) -> None:
    with pytest.raises(ShardError, match="no manifest"):
        ShardReader(bucket)
    write_source(bucket)
    names = storage.list_files(bucket)
    assert names == storage.list_files(str(source))
    for name in names:
        assert storage.read_bytes(storage.join(bucket, name)) == (source / name).read_bytes()
    assert list(ShardReader(bucket)) == make_samples(50)
    assert verify_source(bucket).problems == ()
    with pytest.raises(ShardError, match="overwrite"):
        write_source(bucket)

    tar = storage.join(bucket, "shard-000001.tar")
    data = bytearray(storage.read_bytes(tar))
    data[3000] ^= 1
    storage.write_atomically(tar, bytes(data))
    storage.delete(storage.join(bucket, "shard-000002.idx"))
    with pytest.raises(ShardError, match="index is missing"):
        ShardReader(bucket)
    index_source(bucket)
    with pytest.raises(ShardError, match=r"shard-000001\.tar offset 0: .* corrupt"):
        list(ShardReader(bucket))
    write_source(bucket, 10, overwrite=True)
    assert len(ShardReader(bucket)) == 10


def test_an_interrupted_build_goes_on(
    bucket: str,
    write_source: Callable[..., Manifest],
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The ledger of the second shard never arrives: the shard is redone, the first is kept."""
    write, calls = storage.write_atomically, 0

    def failing(url: str, data: bytes) -> None:
        nonlocal calls
        calls += url.endswith("ledger.jsonl")
        if calls == 3:
            raise KeyboardInterrupt
        write(url, data)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_atomically", failing)
        with pytest.raises(KeyboardInterrupt):
            write_source(bucket)
    assert "manifest.json" not in storage.list_files(bucket)
    write_source(bucket)
    assert storage.list_files(bucket) == storage.list_files(str(source))


def test_through_the_cache(
    bucket: str,
    write_source: Callable[..., Manifest],
    make_samples: Callable[..., list[Sample]],
    tmp_path: Path,
) -> None:
    """Also where the ETag changes and the bytes do not, and where the bytes do."""
    write_source(bucket)
    cache = ShardCache(tmp_path / "cache")
    storage.delete(storage.join(bucket, "shard-000002.idx"))
    reader = ShardReader(bucket, cache=cache)
    reader.prefetch(range(3))
    assert list(reader) == make_samples(50)
    assert len(list(cache.folder.rglob("*.idx"))) == 3
    tar = storage.join(bucket, "shard-000001.tar")
    data, tag = storage.read_bytes(tar), version_of(tar)
    upload_in_parts(tar, data)
    assert version_of(tar) != tag
    other = ShardCache(tmp_path / "other")
    assert list(ShardReader(bucket, cache=other)) == make_samples(50)

    storage.write_atomically(tar, data.replace(b"rd12", b"rd13"))
    storage.delete(storage.join(bucket, "shard-000001.idx"))
    assert list(ShardReader(bucket, cache=cache)) == make_samples(50)
    with pytest.raises(ShardError, match="not the one that the manifest names") as caught:
        list(ShardReader(bucket, cache=ShardCache(tmp_path / "third")))
    assert str(version_of(tar)) in str(caught.value)


def upload_in_parts(url: str, data: bytes) -> None:
    """The same bytes get another kind of ETag."""
    import boto3

    name, _, key = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    upload = client.create_multipart_upload(Bucket=name, Key=key)["UploadId"]
    where = {"Bucket": name, "Key": key, "UploadId": upload}
    part = client.upload_part(**where, PartNumber=1, Body=data)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    client.complete_multipart_upload(**where, MultipartUpload=parts)


def test_no_such_bucket_and_no_server(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    with pytest.raises(ShardError):
        storage.write_atomically("s3://no-such-bucket/a", b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("headrace.shards.retry._reached", set())
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ShardError):
        storage.read_bytes(storage.join(bucket, "a"))
