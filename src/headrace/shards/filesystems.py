"""fsspec: the filesystem behind a URL, and what its exceptions mean to a user."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.core import split_protocol, url_to_fs

from headrace.errors import MissingExtraError, Problem, ShardError, StorageError, UserError
from headrace.shards.retry import (
    DEFAULT_RETRY,
    TIMEOUTS,
    RetryPolicy,
    http_status,
    is_missing,
    is_of_library,
    is_unreachable,
    reason_of,
    with_retries,
)

T = TypeVar("T")

NO_SUCH_FILE = "no such file"
"""What is wrong, in the problem of a file that is not there."""


def filesystem_of(url: str, policy: RetryPolicy = DEFAULT_RETRY) -> tuple[Any, str]:
    """The filesystem of a URL and the path on it; fsspec keeps the instances (also over forks)."""
    protocol, _ = split_protocol(url)
    try:
        filesystem, path = url_to_fs(url, **_options(protocol, policy))
    except ImportError as error:
        if protocol in ("s3", "s3a"):
            raise MissingExtraError("s3fs", "s3", f"reading {protocol}:// URLs") from error
        raise ShardError(
            Problem(
                f"fsspec lacks a package for {protocol}:// URLs", url, None, f"{error} (with pip)"
            )
        ) from error
    except ValueError as error:
        known = ", ".join(sorted(set(fsspec.available_protocols()) & {"file", "s3", "gs", "http"}))
        raise ShardError(
            Problem(
                f"the protocol {protocol}:// is not known",
                url,
                remedy=f"Use a path or one of {known}, memory",
            )
        ) from error
    return filesystem, path


def _options(protocol: str | None, policy: RetryPolicy) -> dict[str, Any]:
    """Timeouts for the client of a store; what fsspec's configuration says of it comes first."""
    configured = fsspec.config.conf.get(protocol or "", {})
    if protocol in ("s3", "s3a"):
        # s3fs itself retries, and this module does: a third loop inside would multiply the waits.
        ours = {
            "connect_timeout": policy.connect_timeout,
            "read_timeout": policy.stall_timeout,
            "retries": {"total_max_attempts": 1},
        }
        return {"config_kwargs": {**ours, **configured.get("config_kwargs", {})}}
    if protocol in ("http", "https"):
        try:
            from aiohttp import ClientTimeout
        except ImportError:
            return {}  # fsspec says so itself
        timeout = ClientTimeout(
            total=None, sock_connect=policy.connect_timeout, sock_read=policy.stall_timeout
        )
        return {"client_kwargs": {"timeout": timeout, **configured.get("client_kwargs", {})}}
    return {}


def read_remotely(
    url: str, policy: RetryPolicy, action: str, request: Callable[[Any, str, dict[str, Any]], T]
) -> T:
    """``request(filesystem, path, options)`` with retries; its errors as one ShardError.

    ``options`` go into each call of the filesystem: they carry the time that it may take.
    """

    def attempt(seconds: float) -> T:
        filesystem, path = filesystem_of(url, policy)
        # fsspec takes the timeout from the arguments of every mirrored coroutine.
        options = {"timeout": seconds} if isinstance(filesystem, AsyncFileSystem) else {}
        return request(filesystem, path, options)

    with translated(url, action):
        return with_retries(attempt, url, policy)


_AT_ONCE = 32
"""Requests in flight to one web server where many files are looked up."""


def sizes_at_once(urls: Sequence[str], policy: RetryPolicy) -> list[int | None]:
    """The sizes of files on one web server, asked for concurrently; None where there is no file.

    A question that fails for a while is asked again with the others that did.
    """
    found: dict[str, int | None] = {}

    def request(filesystem: Any, _: str, options: dict[str, Any]) -> None:
        async def ask_all() -> list[Any]:
            limit = asyncio.Semaphore(_AT_ONCE)

            async def ask(url: str) -> Any:
                async with limit:
                    return await filesystem._info(url)

            return await asyncio.gather(*(ask(url) for url in left), return_exceptions=True)

        left = [url for url in urls if url not in found]
        failure: BaseException | None = None
        for url, answer in zip(left, sync(filesystem.loop, ask_all, **options), strict=True):
            if not isinstance(answer, BaseException):
                found[url] = size_in(answer, url)
            elif is_missing(answer):
                found[url] = None
            else:
                failure = answer
        if failure is not None:
            raise failure

    if urls:
        read_remotely(urls[0], policy, "look it up", request)
    return [found[url] for url in urls]


def size_in(found: Mapping[str, Any], url: str) -> int:
    """The size that a filesystem's description of a file gives."""
    size = found["size"]
    if size is None:
        raise ShardError(
            Problem("the server does not tell the size", url, remedy="Use one that knows ranges")
        )
    return int(size)


@contextmanager
def translated(url: str, action: str) -> Iterator[None]:
    """Turn what the operating system or a client library raises into one ShardError.

    It is a :class:`StorageError`, unless it says that a file is not there.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem = _problem(url, action, error)
        if problem is None:
            raise
        kind = ShardError if problem.what == NO_SUCH_FILE else StorageError
        raise kind(problem) from error


def in_the_way(url: str) -> Problem:
    """A file lies where a folder has to be."""
    return Problem("a file is in the way", url, remedy="Choose another folder")


def _problem(url: str, action: str, error: Exception) -> Problem | None:
    """What an exception says about a URL; None if it is not of the outside world."""
    if not (is_of_library(error) or isinstance(error, (OSError, *TIMEOUTS))):
        return None
    if is_unreachable(error) or isinstance(error, ConnectionError):
        return Problem(
            "the server is not reachable",
            url,
            str(error.__cause__ or error),
            "Check the address and the network",
        )
    status = http_status(error)
    denied = status in (401, 403) or isinstance(error, PermissionError)
    if denied:
        return Problem(f"no permission to {action}", url, remedy="Check credentials and modes")
    if status is not None and status not in (404, 410):
        return Problem(
            f"the server failed: HTTP status {status}", url, reason_of(error), "Try again later"
        )
    if isinstance(error, FileNotFoundError):
        if error.__cause__ is not None and status is None:
            return _problem(url, action, OSError(reason_of(error)))
        return Problem(NO_SUCH_FILE, url, remedy="Check the path, or build the source first")
    if isinstance(error, (FileExistsError, NotADirectoryError)) and action == "write it":
        return in_the_way(url)
    if is_of_library(error):
        return Problem(f"cannot {action}: {error}", url, remedy="Check endpoint and credentials")
    reason = getattr(error, "strerror", None) or reason_of(error)
    remedy = "Check the storage and try again"
    if getattr(error, "errno", None) == errno.EMFILE:
        remedy = "Raise the limit of open files: ulimit -n"
    return Problem(f"cannot {action}: {reason}", url, remedy=remedy)
