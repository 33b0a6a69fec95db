"""Trying again: when attempts begin, by a clock that only waiting moves, and after what."""

from __future__ import annotations

import datetime
import ssl
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import ShardError
from headrace.shards import ShardReader
from headrace.shards.retry import RetryPolicy, with_retries

QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.05)


class Clock:
    """Stands still but for waits, and for what is done."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    monkeypatch.setattr("time.sleep", clock.sleep)
    return clock


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(deadline=st.floats(0.5, 100), first_wait=st.floats(0.1, 60), duration=st.floats(0, 20))
def test_no_attempt_begins_after_the_deadline(
    clock: Clock, deadline: float, first_wait: float, duration: float
) -> None:
    policy = RetryPolicy(
        attempts=1000, deadline=deadline, first_wait=first_wait, longest_wait=60, request_timeout=9
    )
    start = clock.now
    begun: list[float] = []

    def fail(seconds: float) -> None:
        assert 0 < seconds <= min(9, deadline)
        begun.append(clock.now - start)
        clock.now += duration
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        with_retries(fail, "https://host/file", policy)
    assert begun[0] == 0
    assert max(begun) < deadline


def test_attempts_are_counted(clock: Clock) -> None:
    begun: list[float] = []

    def fail(_: float) -> None:
        begun.append(clock.now)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        with_retries(fail, "https://host/file", RetryPolicy(attempts=7, deadline=10_000))
    assert len(begun) == 7


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that nobody but its owner has signed, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(encoding))
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, form, secret))
    return folder / "certificate.pem", folder / "key.pem"


def test_a_certificate_that_is_not_trusted_is_not_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("aiohttp")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_certificate(tmp_path))
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            with pytest.raises(ShardError, match=r"(?i)certificate"):
                ShardReader(f"https://127.0.0.1:{server.server_port}/en", retry=QUICK)
        finally:
            server.shutdown()
    assert not caplog.records


def test_a_server_that_speaks_no_tls_is_given_up_soon(
    web: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ShardError, match="not reachable"):
        ShardReader(web.url.replace("http:", "https:"), retry=QUICK)
    assert len(caplog.records) == 2
