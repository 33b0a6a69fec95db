from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headrace.errors import ShardError
from headrace.shards import Sample, ShardReader, storage
from headrace.shards.verify import verify_source

pytest.importorskip("aiohttp")


class Quiet(SimpleHTTPRequestHandler):
    """The web server of the standard library: it knows no byte ranges."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_source_on_a_web_server(
    server: str, source: Path, big_source: Path, make_samples: Callable[..., list[Sample]]
) -> None:
    assert list(ShardReader(f"{server}/source")) == make_samples(50)
    assert [sample.key for sample in ShardReader(f"{server}/big")] == [
        sample.key for sample in ShardReader(str(big_source))
    ]
    assert verify_source(f"{server}/source").problems == ()
    assert (
        storage.read_range(f"{server}/source/manifest.json", 3, 4)
        == ((source / "manifest.json").read_bytes()[3:7])
    )
    (source / "shard-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000001\.tar: the shard is missing"):
        ShardReader(f"{server}/source")


def test_no_such_folder(server: str) -> None:
    with pytest.raises(ShardError, match="no manifest"):
        ShardReader(f"{server}/none")
