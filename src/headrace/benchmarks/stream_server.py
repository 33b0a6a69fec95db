"""A web server for the benchmark ``stream``: delays every answer and refuses some requests."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Line:
    """How bad the line is; one object a server."""

    delay_s: float
    """Before every answer."""
    failing_share: float
    """Of the requests, which are answered with status 503."""
    seed: int
    requests: int = 0
    failures: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)

    def fails(self) -> bool:
        """Whether the next request fails; the same sequence for the same seed."""
        with self._lock:
            self.requests += 1
            failing = self._draw.random() < self.failing_share
            self.failures += failing
            return failing


@contextmanager
def serve(folder: Path, line: Line) -> Iterator[str]:
    """The URL of a server for the files of a folder, on the loopback interface."""
    server = _Server(("127.0.0.1", 0), partial(_Handler, folder, line))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    """Threads that may be left over, and no word about clients that hang up."""

    daemon_threads = True
    request_queue_size = 128
    """Connections that wait to be accepted; beyond it the kernel lets a client wait a second."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients end while their connections are open, which is their business."""


class _Handler(BaseHTTPRequestHandler):
    """Files of one folder, whole or a range, with a strong ETag."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, folder: Path, line: Line, *arguments: object) -> None:
        self._folder, self._line = folder, line
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """A file or a range of one."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Size and ETag."""
        self._answer(with_body=False)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: thousands of requests are expected."""

    def _answer(self, with_body: bool) -> None:
        time.sleep(self._line.delay_s)
        path = self._folder / self.path.strip("/")
        if self._line.fails():
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        if path.parent != self._folder or not path.is_file():
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        stop = min(int(wanted[2]) + 1, size) if wanted and wanted[2] else size
        if start >= size > 0:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{size}-{path.stat().st_mtime_ns}"')
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if with_body:
            with path.open("rb") as file:
                file.seek(start)
                self.wfile.write(file.read(stop - start))

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
