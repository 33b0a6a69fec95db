"""Trying again what failed on the way to a store: how often, how long, and after which errors."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tenacity

from headrace.errors import ShardError

T = TypeVar("T")
_log = logging.getLogger(__name__)

LIBRARIES = {"botocore", "aiobotocore", "aiohttp", "gcsfs", "google", "azure"}
"""Client libraries of object stores and web servers, with exception families of their own."""
TIMEOUTS = (TimeoutError, asyncio.TimeoutError)
"""Two classes up to Python 3.10."""
_LASTING = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "ParamValidationError",
    "ProfileNotFound",
    "InvalidURL",
    "NonHttpUrlClientError",
    "ClientConnectorCertificateError",
}
"""Exceptions of those libraries that another attempt meets again."""
_LASTING_OS = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_LASTING_CODES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}
_BUSY = {408, 425, 429}
"""HTTP statuses below 500 that mean: later."""
_CONTENT_ATTEMPTS = 3
"""Attempts where the whole answer came and its hash is wrong: more would not help."""
_FIRST_CONTACT_ATTEMPTS = 3
"""Attempts to reach a server that has never answered this process: it may be a wrong address."""
_reached: set[str] = set()


@dataclass(frozen=True)
class RetryPolicy:
    """How reads from a store are tried again: exponential backoff with full jitter.

    The wait before attempt n + 2 is a random time up to ``first_wait * 2**n`` seconds, at most
    ``longest_wait``.
    """

    attempts: int = 12
    """Attempts of one request."""
    deadline: float = 600.0
    """Seconds after which no further attempt is begun; no request lasts longer, either."""
    first_wait: float = 0.5
    """Upper bound in seconds of the first wait."""
    longest_wait: float = 30.0
    """Upper bound in seconds of every wait."""
    connect_timeout: float = 10.0
    """Seconds for a connection to a web server."""
    stall_timeout: float = 30.0
    """Seconds in which a web server sends nothing, after which the request is given up."""
    request_timeout: float = 300.0
    """Seconds for one request, to any store whose fsspec client is asynchronous."""


DEFAULT_RETRY = RetryPolicy()


def with_retries(operation: Callable[[float], T], url: str, policy: RetryPolicy) -> T:
    """The outcome of ``operation(seconds it may take)``, tried again after passing errors.

    A :class:`ShardError` of the operation says that the content is wrong; it is tried again, too,
    but only twice.  Every retry is logged as a warning.
    """
    host = url.partition("://")[0] + url.partition("://")[2].partition("/")[0]
    start = time.monotonic()

    failures: Counter[bool] = Counter()  # by whether the content was wrong

    def attempts_left(error: BaseException | None) -> int:
        wrong = isinstance(error, ShardError)
        most = policy.attempts
        if wrong:
            most = _CONTENT_ATTEMPTS
        elif error is not None and is_unreachable(error) and host not in _reached:
            most = _FIRST_CONTACT_ATTEMPTS
        return min(most - failures[wrong], policy.attempts - failures.total())

    def stop(state: tenacity.RetryCallState) -> bool:
        assert state.outcome is not None
        error = state.outcome.exception()
        failures[isinstance(error, ShardError)] += 1
        # The next attempt would begin after the wait.
        begins = time.monotonic() - start + state.upcoming_sleep
        return attempts_left(error) <= 0 or begins >= policy.deadline

    def log(state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        error = state.outcome.exception()
        _log.warning(
            "%s: %s; attempt %d of %d in %.1f s",
            url,
            reason_of(error),
            state.attempt_number + 1,
            state.attempt_number + attempts_left(error),
            state.upcoming_sleep,
        )

    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, ShardError) or is_passing(error)
        ),
        wait=tenacity.wait_random_exponential(policy.first_wait, policy.longest_wait),
        stop=stop,
        before_sleep=log,
        reraise=True,
    ):
        with attempt:
            remaining = policy.deadline - (time.monotonic() - start)
            outcome = operation(max(0.1, min(policy.request_timeout, remaining)))
    _reached.add(host)
    return outcome


def reason_of(error: BaseException | None) -> str:
    """What an exception says, in one line; some say nothing but their name."""
    if isinstance(error, ShardError):
        return error.problems[0].what
    if error is None or isinstance(error, TIMEOUTS):
        return "no answer in time"
    cause = error.__cause__ if error.__cause__ is not None else error
    text = str(cause) or type(cause).__name__
    return " ".join(text.split())[:200]


def is_passing(error: BaseException) -> bool:
    """Whether another attempt may succeed: not if a file is missing or access is denied."""
    status = http_status(error)
    if status is not None:
        return status >= 500 or status in _BUSY
    if is_unreachable(error) or isinstance(error, TIMEOUTS):
        return True
    # fsspec's web client says "no such file" of any failure, with the failure as its cause.
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        return is_passing(error.__cause__)
    if is_of_library(error):
        return type(error).__name__ not in _LASTING
    if isinstance(error, OSError):
        return not isinstance(error, _LASTING_OS) and error.errno not in _LASTING_CODES
    return False


def is_missing(error: BaseException) -> bool:
    """Whether a file is not there, as opposed to a server that could not tell."""
    status = http_status(error)
    if status is not None:
        return status in (404, 410)
    return isinstance(error, FileNotFoundError) and (
        error.__cause__ is None or (not is_of_library(error.__cause__) and not is_passing(error))
    )


def is_unreachable(error: BaseException) -> bool:
    """Whether a server does not answer; fsspec's web client has that as the cause of another."""
    # Named, not imported: aiohttp and botocore are not always installed.
    names = {
        "ClientConnectorError",
        "ClientConnectorDNSError",
        "ClientConnectorSSLError",
        "EndpointConnectionError",
    }
    return any(
        isinstance(one, ConnectionRefusedError) or type(one).__name__ in names
        for one in (error, error.__cause__)
    )


def is_of_library(error: BaseException) -> bool:
    """Whether a client library of a store raised it."""
    return type(error).__module__.partition(".")[0] in LIBRARIES


def http_status(error: BaseException) -> int | None:
    """The HTTP status that an error reports, if it does."""
    for one in (error, error.__cause__):
        if one is None or not is_of_library(one):
            continue
        response = getattr(one, "response", None)
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(status, int):
                return status
        # aiohttp's parser has a "code" of 400 for what the server sent: that is no status.
        library = type(one).__module__.partition(".")[0]
        for name in ("status", "status_code", "code") if library != "aiohttp" else ("status",):
            status = getattr(one, name, None)
            if isinstance(status, int) and status >= 100:
                return status
    return None
