"""The files of a source: what its patterns match, in one order, and how a change shows."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.corpus.language import language_problems
from headrace.errors import Problem, UserError
from headrace.shards import storage
from headrace.shards.filesystems import filesystem_of, read_remotely, translated
from headrace.shards.retry import DEFAULT_RETRY

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_WILD = re.compile(r"[*?\[]")
_VERSIONS = (
    "ETag",
    "etag",
    "md5Hash",
    "generation",
    "checksum",
    "LastModified",
    "mtime",
    "created",
)
"""What file systems call that which changes with a file's content, the surest first."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file was when it was looked at."""

    size: int
    version: str
    """Changes whenever the content does: time of modification, or the store's tag."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of a source."""

    source: int
    """Number of its source in the recipe, from 0 on."""
    url: str
    key: str
    """Its path below the folder that all patterns of its source share."""
    stamp: Stamp


def expanded(text: str, where: str, problems: list[Problem]) -> str:
    """The text with each ``${NAME}`` replaced; a variable that is not set is a problem."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if not found:
            remedy = f"Set it: export {match[1]}=..."
            problems.append(Problem("the environment variable is not set", where, match[0], remedy))
        return found or ""

    return _VARIABLE.sub(value, text)


def list_files(
    files: Sequence[str],
    except_files: Sequence[str],
    number: int,
    where: str,
    problems: list[Problem],
) -> list[InputFile]:
    """The files of a source, by URL; what is wrong goes to ``problems``.

    Args:
        files: patterns of what is read.
        except_files: patterns of what of it is left out.
        number: of the source in the recipe, from 0 on.
        where: JSON path of the source.
        problems: gets one for each pattern that matches nothing or cannot be looked up.
    """
    before = len(problems)
    wanted = _patterns(files, f"{where}.files", problems)
    unwanted = _patterns(except_files, f"{where}.except_files", problems)
    if len(problems) > before:
        return []
    found: dict[str, Stamp] = {}
    for pattern, place in wanted:
        found |= _matches(pattern, place, problems)
    for pattern, place in unwanted:
        for url in _matches(pattern, place, problems):
            found.pop(url, None)
    if not found and len(problems) == before:
        remedy = "Leave fewer out"
        problems.append(Problem("no file is left", f"{where}.except_files", None, remedy))
    folder = _common_folder([_unwild(_path_of(pattern)) for pattern, _ in wanted])
    return [
        InputFile(number, url, _path_of(url).removeprefix(folder).lstrip("/"), found[url])
        for url in sorted(found)
    ]


def recorded_patterns(patterns: Sequence[str]) -> list[str]:
    """Patterns without the folders of this machine that all of its absolute ones share."""
    absolute = [one for one in patterns if storage.is_local(one) and _is_absolute(one)]
    folder = _common_folder([_unwild(_path_of(one)) for one in absolute]) if absolute else ""
    return [
        _path_of(one).removeprefix(folder).lstrip("/") if one in absolute else one
        for one in patterns
    ]


def _is_absolute(pattern: str) -> bool:
    return not _VARIABLE.match(pattern) and storage.local_path(pattern).is_absolute()


def name_problems(files: Sequence[InputFile], where: str) -> list[Problem]:
    """A problem for each file that is not named after a language."""
    return [
        problem
        for file in files
        for problem in language_problems(language_of_name(file.key), f"{where}: {file.url}")
    ]


def language_of_name(key: str) -> str:
    """What stands before the first dot of a file's name."""
    return storage.name_of(key).partition(".")[0]


def stamp_of(url: str) -> Stamp:
    """What a file is now; :class:`ShardError` if it is not there."""
    if storage.is_local(url):
        with translated(url, "read it"):
            status = storage.local_path(url).stat()
        return Stamp(status.st_size, str(status.st_mtime_ns))

    def request(filesystem: Any, path: str, options: dict[str, Any]) -> Stamp:
        filesystem.invalidate_cache()
        return _stamp(filesystem.info(path, **options))

    return read_remotely(url, DEFAULT_RETRY, "look it up", request)


def _stamp(info: Mapping[str, Any]) -> Stamp:
    version = next((str(info[name]) for name in _VERSIONS if info.get(name)), "")
    return Stamp(int(info["size"] or 0), version)


def _patterns(words: Sequence[str], where: str, problems: list[Problem]) -> list[tuple[str, str]]:
    """Patterns with their variables replaced, each with its JSON path."""
    places = [f"{where}.{number}" for number in range(len(words))]
    return [
        (expanded(word, place, problems), place) for word, place in zip(words, places, strict=True)
    ]


def _matches(pattern: str, where: str, problems: list[Problem]) -> dict[str, Stamp]:
    try:
        found = _glob(pattern)
    except UserError as error:
        problems += [Problem(one.what, where, one.where, one.remedy) for one in error.problems]
        return {}
    if not found:
        remedy = "Check the path; ** matches folders in folders"
        problems.append(Problem("no file is there", where, pattern, remedy))
    return found


def _glob(pattern: str) -> dict[str, Stamp]:
    """The files that a pattern matches, by URL."""
    if storage.is_local(pattern):
        filesystem, path = filesystem_of(str(storage.local_path(pattern).absolute()))
        with translated(pattern, "list it"):
            paths = [path] if os.path.isfile(path) else filesystem.glob(path)  # noqa: PTH113
            return {one: stamp_of(one) for one in paths if os.path.isfile(one)}  # noqa: PTH113

    def request(filesystem: Any, path: str, options: dict[str, Any]) -> dict[str, Stamp]:
        filesystem.invalidate_cache()
        if not _WILD.search(path):
            infos = {path: filesystem.info(path, **options)}
        else:
            infos = filesystem.glob(path, detail=True, **options)
        return {
            str(filesystem.unstrip_protocol(name)): _stamp(info)
            for name, info in infos.items()
            if info["type"] == "file"
        }

    return read_remotely(pattern, DEFAULT_RETRY, "list it", request)


def _path_of(url: str) -> str:
    """The path of a URL, or of a pattern, on its file system."""
    if storage.is_local(url):
        return str(storage.local_path(url).absolute())
    return str(filesystem_of(url)[1])


def _unwild(pattern: str) -> str:
    """The folder of a pattern's first wildcard, or of the file that it names."""
    match = _WILD.search(pattern)
    head = pattern[: match.start()] if match else pattern
    return head.rpartition("/")[0] + "/"


def _common_folder(folders: Sequence[str]) -> str:
    parts = [folder.split("/") for folder in folders]
    shared = 0
    while all(shared < len(part) and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return "/".join(parts[0][:shared]).rstrip("/") + "/"
