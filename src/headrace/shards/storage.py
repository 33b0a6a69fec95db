"""Files behind URLs: paths on this machine, and whatever fsspec knows.

A URL is a plain path (``data/en``), ``file://``, ``memory://``, ``s3://`` or any other protocol
that fsspec knows.  Everything the outside world can get wrong (no such file, no permission, no
such protocol, disk full, server not reachable) comes back as one :class:`ShardError`.  Remote
reads are tried again as a :class:`RetryPolicy` says.
"""

from __future__ import annotations

import io
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from fsspec.core import split_protocol

from headrace.errors import Problem, ShardError, UserError
from headrace.shards.filesystems import (
    filesystem_of,
    in_the_way,
    read_remotely,
    sizes_at_once,
    translated,
)
from headrace.shards.remote import RemoteFile, read_from, size_on
from headrace.shards.retry import DEFAULT_RETRY, RetryPolicy, is_missing

T = TypeVar("T")

TEMPORARY_SUFFIX = ".part"
"""Ending of a file that is being written; such a file is never read and may be deleted."""
PIECE_BYTES = 8 << 20
"""Bytes asked for in one request where a whole file is fetched; whole blocks of an index."""


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
            filesystem_of(text)
        except UserError as error:
            return [Problem(p.what, where, text, p.remedy) for p in error.problems]
        return []
    path = local_path(text)
    if path.is_dir() or text.endswith("/"):
        return [Problem("a folder, where a file is to be written", where, text, "Name a file")]
    if path.exists() and not path.is_file():
        # A file is replaced as a whole: a device or pipe would be gone.
        return [Problem("a device or pipe, not a file", where, text, "Name a file")]
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


def read_bytes(url: str, retry: RetryPolicy = DEFAULT_RETRY) -> bytes:
    """The whole content of a file."""
    return read_parsed(url, bytes, retry)


def read_parsed(url: str, parse: Callable[[bytes], T], retry: RetryPolicy = DEFAULT_RETRY) -> T:
    """What ``parse`` makes of the whole content of a file.

    Where it raises :class:`ShardError`, a remote file is fetched again, since it may have been
    damaged on the way; then the error is raised.
    """
    if is_local(url):
        with translated(url, "read it"):
            data = local_path(url).read_bytes()
        return parse(data)
    return read_remotely(
        url,
        retry,
        "read it",
        lambda filesystem, path, options: parse(bytes(filesystem.cat_file(path, **options))),
    )


def read_range(
    url: str,
    start: int,
    length: int,
    retry: RetryPolicy = DEFAULT_RETRY,
    check: Callable[[bytes], None] | None = None,
) -> bytes:
    """``length`` bytes from byte ``start``; fewer where the file ends before.

    With ``check`` a remote answer that is too short is only believed if the file is that short,
    and one for which ``check`` raises :class:`ShardError` is fetched again before it is raised.
    """
    if is_local(url):
        with translated(url, "read it"), local_path(url).open("rb") as file:
            file.seek(start)
            data = file.read(length)
        if check is not None:
            check(data)
        return data
    data = read_from(url, start, length, retry, check)
    # A web server that knows no ranges answers with the whole file.
    return data[start : start + length] if len(data) > length else data


def size_of(url: str, retry: RetryPolicy = DEFAULT_RETRY) -> int:
    """Size of a file in bytes."""
    if is_local(url):
        with translated(url, "read it"):
            return local_path(url).stat().st_size
    return read_remotely(url, retry, "read it", size_on)


def can_list(url: str) -> bool:
    """Whether the files of a folder can be listed: everywhere but on web servers."""
    return split_protocol(url)[0] not in ("http", "https")


def sizes(url: str, names: Sequence[str], retry: RetryPolicy = DEFAULT_RETRY) -> dict[str, int]:
    """Sizes in bytes of those of the named files that are in the folder ``url``.

    One listing where the storage can list; a web server is asked for all files at once.
    """
    if can_list(url):
        found = list_files(url, retry=retry)
        return {name: found[name] for name in names if name in found}
    urls = [join(url, name) for name in names]
    answers = sizes_at_once(urls, retry)
    return {name: size for name, size in zip(names, answers, strict=True) if size is not None}


def make_folder(url: str) -> None:
    """Make a local folder and its parents; object stores need none."""
    if is_local(url):
        _make_local_folder(local_path(url), url)


def exists(url: str, retry: RetryPolicy = DEFAULT_RETRY) -> bool:
    """Whether a file or folder is there."""
    if is_local(url):
        with translated(url, "look it up"):
            return local_path(url).exists()

    def request(filesystem: Any, path: str, options: dict[str, Any]) -> bool:
        filesystem.invalidate_cache()
        # exists() of fsspec's web client takes any failure for a missing file.
        try:
            filesystem.info(path, **options)
        except FileNotFoundError as error:
            if is_missing(error):
                return False
            raise
        return True

    return read_remotely(url, retry, "look it up", request)


def list_files(url: str, suffix: str = "", retry: RetryPolicy = DEFAULT_RETRY) -> dict[str, int]:
    """Sizes in bytes by name of the files directly in a folder, names sorted.

    A folder that does not exist is an empty one: object stores know no other kind.
    """
    if is_local(url):
        with translated(url, "list it"):
            folder = local_path(url)
            if not folder.is_dir():
                return {}
            with os.scandir(folder) as entries:
                found = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    else:

        def request(filesystem: Any, path: str, options: dict[str, Any]) -> dict[str, int]:
            filesystem.invalidate_cache()
            try:
                entries = filesystem.ls(path, detail=True, **options)
            except FileNotFoundError as error:
                if is_missing(error):
                    return {}
                raise
            return {
                name_of(entry["name"]): int(entry["size"] or 0)
                for entry in entries
                if entry["type"] == "file"
            }

        found = read_remotely(url, retry, "list it", request)
    return {name: found[name] for name in sorted(found) if name.endswith(suffix)}


def delete(url: str) -> None:
    """Delete one file; nothing happens where there is none."""
    with translated(url, "delete it"):
        if is_local(url):
            local_path(url).unlink(missing_ok=True)
            return
        filesystem, path = filesystem_of(url)
        filesystem.invalidate_cache()
        if filesystem.exists(path):
            filesystem.rm_file(path)


@contextmanager
def open_for_reading(url: str) -> Iterator[IO[bytes]]:
    """A seekable binary stream over a file, read ahead in blocks where it is remote."""
    if is_local(url):
        with translated(url, "read it"):
            file: IO[bytes] = local_path(url).open("rb")
    else:
        file = io.BufferedReader(RemoteFile(url, size_of(url)), PIECE_BYTES)
    with file:
        yield file


@contextmanager
def open_local(url: str) -> Iterator[IO[bytes]]:
    """A local file with the content of ``url``: a remote one is fetched, once, to a temporary."""
    with open_for_reading(url) as source:
        if is_local(url):
            yield source
            return
        temporary = tempfile.gettempdir()
        with tempfile.TemporaryFile(buffering=0) as copy:
            while data := source.read(PIECE_BYTES):
                with translated(temporary, "write it"):
                    write_all(copy, data)
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
        with translated(url, "write it"):
            token = secrets.token_hex(4)
            temporary = target.with_name(f".{target.name}.{token}{TEMPORARY_SUFFIX}")
            file: IO[bytes] = temporary.open("w+b")
        try:
            with file, translated(url, "write it"):
                yield file
                file.flush()
                os.fsync(file.fileno())
            with translated(url, "write it"):
                temporary.replace(target)
                sync(target.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return
    with tempfile.NamedTemporaryFile(suffix=TEMPORARY_SUFFIX) as file:
        yield file
        file.flush()
        with translated(url, "write it"):
            filesystem, path = filesystem_of(url)
            filesystem.put_file(file.name, path)
            filesystem.invalidate_cache()


def write_atomically(url: str, data: bytes) -> None:
    """Write a whole file so that a reader sees either the old content or the new, never a part."""
    if is_local(url):
        with open_atomically(url) as file:
            file.write(data)
        return
    with translated(url, "write it"):
        filesystem, path = filesystem_of(url)
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


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write all bytes to an unbuffered file, which may take them in parts."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]


@contextmanager
def writing_problems(family: type[UserError], what: str, folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` (disk full, no permission) into a ``family`` error about a folder."""
    try:
        yield
    except OSError as error:
        raise family(
            Problem(
                f"{what}: {error.strerror or error}",
                str(error.filename or folder),
                remedy="Choose a folder with space that you may write to",
            )
        ) from error


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
        raise ShardError(in_the_way(url)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ShardError(
            Problem("the folder cannot be made", url, reason, "Choose another folder")
        ) from error
