"""Files behind fsspec URLs: the only module that touches fsspec.

A URL is a plain path (``data/en``), ``file://``, ``memory://``, ``s3://`` or any other protocol
that fsspec knows.  Everything the outside world can get wrong (no such file, no permission, no
such protocol, disk full, server not reachable) comes back as one :class:`ShardError`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.core import split_protocol, url_to_fs

from headrace.errors import MissingExtraError, Problem, ShardError, UserError

TEMPORARY_SUFFIX = ".part"
"""Ending of a file that is being written; such a file is never read and may be deleted."""
NO_SUCH_FILE = "no such file"
"""What is wrong, in the problem of a file that is not there."""
_LIBRARIES = {"botocore", "aiobotocore", "aiohttp"}
"""Client libraries of object stores and web servers, with exception families of their own."""


def is_local(url: str) -> bool:
    """Whether the URL is a path on this machine (``/a/b``, ``a/b`` or ``file:///a/b``)."""
    protocol, _ = split_protocol(url)
    return protocol in (None, "file", "local")


def local_path(url: str) -> Path:
    """The path of a local URL, with ``~`` expanded; ``ValueError`` if it is not local.

    Raises :class:`ShardError` for an empty path, which would be the working folder.
    """
    if not is_local(url):
        raise ValueError(f"{url} is not a local path")
    _refuse_empty(url)
    _, path = split_protocol(url)
    return Path(path).expanduser()


def is_empty(url: str) -> bool:
    """Whether the URL names nothing: no text, blanks, or ``file://`` with nothing behind it."""
    return not url.strip() or (is_local(url) and not split_protocol(url)[1].strip())


def local_folder(text: str, where: str) -> Path:
    """The path of an option that needs a folder on this machine; it need not exist yet.

    ``where`` is the name of the option.  Raises :class:`ShardError` if the text is empty, is the
    URL of a store, or if a file is where the folder or one of its parents has to be.
    """
    if is_empty(text):
        raise ShardError(Problem("the path is empty", where, remedy="Name a folder"))
    if not is_local(text):
        raise ShardError(
            Problem("not a folder on this machine", where, text, "Give a local path, not a URL")
        )
    path = local_path(text)
    if not _nearest(path).is_dir():
        raise ShardError(Problem("a file is in the way", where, text, "Choose another folder"))
    return path


def output_file_problems(text: str, where: str) -> list[Problem]:
    """What keeps a file from being written at a URL, as far as that shows before the work.

    ``where`` is the name of the option.  A local file may be new or there already, in a folder
    that is writable or can be made; of other URLs only the protocol is checked.
    """
    if is_empty(text):
        return [Problem("the path is empty", where, remedy="Name a file")]
    if not is_local(text):
        try:
            _filesystem(text)
        except UserError as error:
            return [Problem(p.what, where, text, p.remedy) for p in error.problems]
        return []
    path = local_path(text)
    if path.is_dir() or text.endswith("/"):
        return [Problem("a folder, where a file is to be written", where, text, "Name a file")]
    folder = _nearest(path.parent)
    if not folder.is_dir():
        return [Problem("a file is in the way", where, text, "Choose another folder")]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [Problem("no permission to write there", where, text, "Choose another folder")]
    return []


def _nearest(path: Path) -> Path:
    """The path, or the nearest of its parents that is there."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))


def _refuse_empty(url: str) -> None:
    if is_empty(url):
        raise ShardError(Problem("the path is empty", repr(url), remedy="Name a file or folder"))


def join(url: str, *parts: str) -> str:
    """Append path parts to a URL with single slashes between them.

    Raises :class:`ShardError` for an empty URL: the parts would lie in the root folder.
    """
    _refuse_empty(url)
    head = url.rstrip("/")
    # "memory://" and the like keep their two slashes.
    return "/".join([f"{head}/" if head.endswith(":") else head, *parts])


def name_of(url: str) -> str:
    """The last part of a URL: a file or folder name."""
    return url.rstrip("/").rsplit("/", 1)[-1]


def read_bytes(url: str) -> bytes:
    """The whole content of a file."""
    with _translated(url, "read it"):
        if is_local(url):
            return local_path(url).read_bytes()
        filesystem, path = _filesystem(url)
        return bytes(filesystem.cat_file(path))


def read_range(url: str, start: int, length: int) -> bytes:
    """``length`` bytes from byte ``start``; fewer where the file ends before."""
    with _translated(url, "read it"):
        if is_local(url):
            with local_path(url).open("rb") as file:
                file.seek(start)
                return file.read(length)
        filesystem, path = _filesystem(url)
        data = bytes(filesystem.cat_file(path, start=start, end=start + length))
        # A web server that knows no ranges answers with the whole file.
        return data[start : start + length] if len(data) > length else data


def size_of(url: str) -> int:
    """Size of a file in bytes."""
    with _translated(url, "read it"):
        if is_local(url):
            return local_path(url).stat().st_size
        filesystem, path = _filesystem(url)
        filesystem.invalidate_cache()
        return int(filesystem.size(path))


def can_list(url: str) -> bool:
    """Whether the files of a folder can be listed: everywhere but on web servers."""
    return split_protocol(url)[0] not in ("http", "https")


def sizes(url: str, names: list[str]) -> dict[str, int]:
    """Sizes in bytes of those of the named files that are in the folder ``url``.

    One listing where the storage can list; a web server is asked for each file.
    """
    if can_list(url):
        found = list_files(url)
        return {name: found[name] for name in names if name in found}
    return {name: size_of(join(url, name)) for name in names if exists(join(url, name))}


def make_folder(url: str) -> None:
    """Make a local folder and its parents; object stores need none."""
    if is_local(url):
        _make_local_folder(local_path(url), url)


def exists(url: str) -> bool:
    """Whether a file or folder is there."""
    with _translated(url, "look it up"):
        if is_local(url):
            return local_path(url).exists()
        filesystem, path = _filesystem(url)
        filesystem.invalidate_cache()
        if can_list(url):
            return bool(filesystem.exists(path))
        # exists() of fsspec's web client takes a server that is not there for a missing file.
        try:
            filesystem.info(path)
        except FileNotFoundError as error:
            if _is_unreachable(error):
                raise
            return False
        return True


def list_files(url: str, suffix: str = "") -> dict[str, int]:
    """Sizes in bytes by name of the files directly in a folder, names sorted.

    A folder that does not exist is an empty one: object stores know no other kind.
    """
    with _translated(url, "list it"):
        if is_local(url):
            folder = local_path(url)
            if not folder.is_dir():
                return {}
            found = {
                entry.name: entry.stat().st_size for entry in folder.iterdir() if entry.is_file()
            }
        else:
            filesystem, path = _filesystem(url)
            filesystem.invalidate_cache()
            try:
                entries = filesystem.ls(path, detail=True)
            except FileNotFoundError:
                return {}
            found = {
                name_of(entry["name"]): int(entry["size"] or 0)
                for entry in entries
                if entry["type"] == "file"
            }
        return {name: found[name] for name in sorted(found) if name.endswith(suffix)}


def delete(url: str) -> None:
    """Delete one file; nothing happens where there is none."""
    with _translated(url, "delete it"):
        if is_local(url):
            local_path(url).unlink(missing_ok=True)
            return
        filesystem, path = _filesystem(url)
        filesystem.invalidate_cache()
        if filesystem.exists(path):
            filesystem.rm_file(path)


@contextmanager
def open_for_reading(url: str) -> Iterator[IO[bytes]]:
    """A seekable binary stream over a file, read ahead in blocks where it is remote."""
    with _translated(url, "read it"):
        if is_local(url):
            file: Any = local_path(url).open("rb")
        else:
            filesystem, path = _filesystem(url)
            file = filesystem.open(path, "rb")
    with file:
        yield file


@contextmanager
def open_local(url: str) -> Iterator[IO[bytes]]:
    """A local file with the content of ``url``: a remote one is fetched, once, to a temporary."""
    with open_for_reading(url) as source:
        if is_local(url):
            yield source
            return
        with tempfile.TemporaryFile() as copy:
            with _translated(url, "read it"):
                shutil.copyfileobj(source, copy, 1 << 20)
            copy.seek(0)
            yield copy


@contextmanager
def open_atomically(url: str) -> Iterator[IO[bytes]]:
    """A seekable local file whose content appears at ``url`` when the block ends without an error.

    Local: a temporary file in the same folder, fsync, rename, fsync of the folder.  Elsewhere: a
    local temporary file that is then put in one operation.
    """
    if is_local(url):
        target = local_path(url)
        _make_local_folder(target.parent, url)
        with _translated(url, "write it"):
            token = secrets.token_hex(4)
            temporary = target.with_name(f".{target.name}.{token}{TEMPORARY_SUFFIX}")
            file: IO[bytes] = temporary.open("w+b")
        try:
            with file, _translated(url, "write it"):
                yield file
                file.flush()
                os.fsync(file.fileno())
            with _translated(url, "write it"):
                temporary.replace(target)
                sync(target.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return
    with tempfile.NamedTemporaryFile(suffix=TEMPORARY_SUFFIX) as file:
        yield file
        file.flush()
        with _translated(url, "write it"):
            filesystem, path = _filesystem(url)
            filesystem.put_file(file.name, path)
            filesystem.invalidate_cache()


def write_atomically(url: str, data: bytes) -> None:
    """Write a whole file so that a reader sees either the old content or the new, never a part."""
    if is_local(url):
        with open_atomically(url) as file:
            file.write(data)
        return
    with _translated(url, "write it"):
        filesystem, path = _filesystem(url)
        filesystem.pipe_file(path, data)
        filesystem.invalidate_cache()


def delete_leftovers(url: str) -> list[str]:
    """Delete what an interrupted :func:`open_atomically` left in a local folder; their names."""
    if not is_local(url):
        return []
    leftovers = [name for name in list_files(url, TEMPORARY_SUFFIX) if name.startswith(".")]
    for name in leftovers:
        delete(join(url, name))
    return leftovers


def sync(path: Path) -> None:
    """Force a local file or folder to disk; a rename is durable once its folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_local_folder(path: Path, url: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ShardError(_in_the_way(url)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ShardError(
            Problem("the folder cannot be made", url, reason, "Choose another folder")
        ) from error


def _in_the_way(url: str) -> Problem:
    return Problem("a file is in the way", url, remedy="Choose another folder")


def _filesystem(url: str) -> tuple[Any, str]:
    """The filesystem of a URL and the path on it; fsspec caches the instances (also over forks)."""
    _refuse_empty(url)
    protocol, _ = split_protocol(url)
    try:
        filesystem, path = url_to_fs(url)
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


@contextmanager
def _translated(url: str, action: str) -> Iterator[None]:
    """Turn what the operating system or a client library raises into one ShardError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem = _problem(url, action, error)
        if problem is None:
            raise
        raise ShardError(problem) from error


def _problem(url: str, action: str, error: Exception) -> Problem | None:
    """What an exception says about a URL; None if it is not of the outside world."""
    is_of_library = type(error).__module__.partition(".")[0] in _LIBRARIES
    if not (is_of_library or isinstance(error, OSError)):
        return None
    if _is_unreachable(error):
        return Problem(
            "the server is not reachable",
            url,
            str(error.__cause__ or error),
            "Check the address and the network",
        )
    if isinstance(error, FileNotFoundError):
        return Problem(NO_SUCH_FILE, url, remedy="Check the path, or build the source first")
    if isinstance(error, (FileExistsError, NotADirectoryError)) and action == "write it":
        return _in_the_way(url)
    if isinstance(error, PermissionError):
        return Problem(f"no permission to {action}", url, remedy="Check credentials and modes")
    if is_of_library:
        return Problem(f"cannot {action}: {error}", url, remedy="Check endpoint and credentials")
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Problem(f"cannot {action}: {reason}", url, remedy="Check the storage and try again")


def _is_unreachable(error: BaseException) -> bool:
    """Whether a server does not answer; fsspec's web client has that as the cause of another."""
    # Named, not imported: aiohttp and botocore are not always installed.
    names = {"ClientConnectorError", "ClientConnectorDNSError", "EndpointConnectionError"}
    return any(
        isinstance(one, ConnectionError) or type(one).__name__ in names
        for one in (error, error.__cause__)
    )
