"""Sources to read, and a web server on the loopback interface whose faults can be switched on."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headrace.shards import Manifest, Sample, ShardWriter
from headrace.shards.sample import make_sample

MakeSamples = Callable[..., list[Sample]]


@pytest.fixture
def make_samples() -> MakeSamples:
    """Samples whose text is different in each and does not compress to one block."""

    def make(count: int, *, start: int = 0, words: int = 40) -> list[Sample]:
        return [
            make_sample(
                f"k{number:05d}",
                " ".join(f"wörd{number * word % 997}" for word in range(words)),
                {"id": f"k{number:05d}", "language": "en", "number": number},
            )
            for number in range(start, start + count)
        ]

    return make


@pytest.fixture
def write_source(make_samples: MakeSamples) -> Callable[..., Manifest]:
    def write(url: object, count: int = 50, per_shard: int = 20, **options: object) -> Manifest:
        with ShardWriter(str(url), samples_per_shard=per_shard, **options) as writer:
            for sample in make_samples(count):
                writer.write(sample)
        return writer.close()

    return write


@pytest.fixture
def source(tmp_path: Path, write_source: Callable[..., Manifest]) -> Path:
    """50 samples in shards of 20, 20 and 10."""
    folder = tmp_path / "source"
    write_source(folder)
    return folder


@pytest.fixture
def big_source(tmp_path: Path, make_samples: MakeSamples) -> Path:
    """One shard of a little more than three blocks of 1 MiB."""
    folder = tmp_path / "big"
    with ShardWriter(str(folder)) as writer:
        for sample in make_samples(300, words=1400):
            writer.write(sample)
    return folder


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    """A web server over the test's folder."""
    pytest.importorskip("aiohttp")
    with serving(tmp_path) as running:
        yield running


HANG = 30.0
"""Seconds that a stalled answer lasts, unless the server is stopped before."""


@dataclass
class WebServer:
    """Serves the files of a folder; every attribute may be changed while it runs."""

    folder: Path
    url: str = ""
    ranges: bool = True
    delay: float = 0.0
    """Seconds before each answer."""
    faults: dict[str, float] = field(default_factory=dict)
    """Share of the requests for file contents, by kind of fault: ``status`` (503), ``reset``,
    ``truncated`` (less than its Content-Length), ``short`` (a Content-Length below the truth),
    ``stall``, ``garbled`` (one bit is wrong)."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Paths that are answered with an error status."""
    replaced: dict[str, list[bytes]] = field(default_factory=dict)
    """Other contents for a path: one for each GET, then the file's own again."""
    wrong_heads: int = 0
    """So many HEAD requests are answered with half the size; -1: the next ones have no size."""
    changing_etag: bool = False
    pace: float = 0.0
    """Seconds of rest after each 4 KiB of an answer."""
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each (method, path) was asked for."""
    injected: Counter[str] = field(default_factory=Counter)
    """How often each fault happened."""
    most_at_once: int = 0
    """The largest number of requests that were open at one time."""
    stopped: threading.Event = field(default_factory=threading.Event)
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    def gets(self, ending: str) -> int:
        """GET requests for paths that end so."""
        return sum(
            count
            for (method, path), count in self.requests.items()
            if method == "GET" and path.endswith(ending)
        )

    def begin(self, method: str, path: str) -> str | None:
        """Count a request; the fault that it meets."""
        with self._lock:
            self.requests[method, path] += 1
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
            if method == "GET":
                number = self._random.random()
                for kind, share in self.faults.items():
                    if number < share:
                        self.injected[kind] += 1
                        return kind
                    number -= share
        return None

    def end(self) -> None:
        with self._lock:
            self._open -= 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        web, path = self.web, self.path.lstrip("/")
        fault = web.begin(self.command, path)
        try:
            time.sleep(web.delay)
            self.send(web, path, fault, with_body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            web.end()

    def send(self, web: WebServer, path: str, fault: str | None, with_body: bool) -> None:
        file = web.folder / path
        status = web.statuses.get(path, 200 if file.is_file() else 404)
        status = 503 if fault == "status" else status
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "reset":
            self.close_connection = True
            return
        others = web.replaced.get(path)
        data = others.pop(0) if others and with_body else file.read_bytes()
        whole = len(data)
        span = self.headers.get("Range")
        start = 0
        if span and web.ranges:
            first, _, last = span.removeprefix("bytes=").partition("-")
            start = int(first)
            data = data[start : int(last) + 1 if last else None]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{whole}")
        else:
            self.send_response(200)
        sent = data
        if fault in ("truncated", "stall"):
            sent = data[: len(data) // 2]
        elif fault == "short":
            data = sent = data[: len(data) // 2]
        elif fault == "garbled":
            sent = data[:-1] + bytes([data[-1] ^ 1])
        length = len(data)
        if not with_body and web.wrong_heads > 0:
            web.wrong_heads -= 1
            length //= 2
        if web.wrong_heads >= 0:
            self.send_header("Content-Length", str(length))
        else:
            self.close_connection = True
        tag = time.monotonic_ns() if web.changing_etag else file.stat().st_mtime_ns
        self.send_header("ETag", f'"{tag:x}"')
        self.end_headers()
        if not with_body:
            return
        for position in range(0, len(sent), 4096 if web.pace else max(1, len(sent))):
            self.wfile.write(sent[position : position + (4096 if web.pace else len(sent))])
            time.sleep(web.pace)
        self.wfile.flush()
        if fault == "stall":
            web.stopped.wait(HANG)
        if len(sent) < len(data):
            self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the tests."""


@contextmanager
def serving(folder: Path) -> Iterator[WebServer]:
    """A running server."""
    web = WebServer(folder)
    handler = type("BoundHandler", (Handler,), {"web": web})
    with Server(("127.0.0.1", 0), handler) as server:
        web.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield web
        finally:
            web.stopped.set()
            server.shutdown()
