"""What ``headrace select`` chose, as the stream needs it: numbers of samples, shard by shard.

The folder of a selection holds ``selection.parquet``, a row for each chosen sample with its ``id``
(``SOURCE/KEY``), and ``selection.json``, a report with a hash of that file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import xxhash

from headrace.counts import counted
from headrace.errors import Problem, SelectionError, UserError
from headrace.file_hash import hash_of
from headrace.shards import storage
from headrace.shards.reader import ShardReader
from headrace.stream.feistel import Int64Array

FORMAT_VERSION = 2
REPORT = "selection.json"
ROWS = "selection.parquet"
WHERE = "headrace.data.selection"
SOURCES = "headrace.data.train"
_NAMED = 3
"""Ids that a problem names; of the others it gives the number."""
_IDS = 1 << 16
"""Ids that are decoded at once."""


@dataclass(frozen=True)
class Chosen:
    """The chosen samples of a source."""

    shards: tuple[Int64Array, ...]
    """For each shard of the manifest the numbers of its chosen samples, ascending; int64."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Chosen samples of each shard."""
        return tuple(map(len, self.shards))

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits over all numbers."""
        hasher = xxhash.xxh3_128(json.dumps(self.sizes).encode())
        for numbers in self.shards:
            hasher.update(numbers.astype("<i8").tobytes())
        return hasher.hexdigest()

    def fingerprint(self, of_source: str) -> str:
        """That of a source, bound to what is chosen of it; 32 hexadecimal digits."""
        return xxhash.xxh3_128_hexdigest(json.dumps([of_source, self.digest]).encode())


def read_chosen(
    folder: str,
    languages: Collection[str],
    readers: Mapping[str, ShardReader],
    *,
    where: str = WHERE,
    sources: str = SOURCES,
) -> dict[str, Chosen]:
    """The chosen samples of the sources of a run, by language.

    Args:
        folder: local folder that ``headrace select`` wrote.
        languages: all languages that the run trains on; the selection has to be of these.
        readers: sources by language, of some or all of ``languages``.
        where: the setting that names the folder, for messages.
        sources: the setting that names the sources, for messages.

    Raises:
        ShardError: if the path is not that of a local folder.
        SelectionError: with everything else that is wrong: no selection, a damaged one, one of
            other languages, of another state of a source, with ids that a source does not have,
            or a shard index that cannot be read.
    """
    path = storage.local_folder(folder, where)
    report = _read_report(path, where)
    keys, problems = _read_keys(path, report)
    problems += _language_problems(path, languages, keys, sources)
    chosen: dict[str, Chosen] = {}
    made_from = report.get("sources") or {}
    for language, reader in readers.items():
        if language not in keys:
            continue
        if made_from.get(language) not in (None, reader.manifest.identity):
            what = f"{language} has changed since the selection was made"
            problems.append(Problem(what, reader.url, str(path), "Select again: headrace select"))
            continue
        try:
            chosen[language] = _find(reader, keys[language])
        except UserError as error:
            problems += error.problems
    if problems:
        raise SelectionError(problems)
    return chosen


def hash_of_rows(folder: Path) -> str:
    """32 hexadecimal digits over the bytes of ``selection.parquet``."""
    return hash_of(folder / ROWS)


def _read_report(folder: Path, where: str) -> dict[str, Any]:
    """The report of a selection, with all that is needed of it."""
    path = folder / REPORT
    remedy = "Name a folder that headrace select wrote"
    if not folder.is_dir():
        raise SelectionError(Problem("no such folder", where, str(folder), remedy))
    if not path.is_file():
        raise SelectionError(Problem(f"not a selection: no {REPORT}", where, str(folder), remedy))
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        version = report["version"]
        sound = (
            isinstance(report["rows_hash"], str)
            and isinstance(report["chosen"], int)
            and isinstance(report.get("sources"), dict | None)
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, repr(error)) from None
    if version != FORMAT_VERSION:
        remedy = "Select again: headrace select"
        raise SelectionError(
            Problem(f"not of version {FORMAT_VERSION}", str(path), str(version), remedy)
        )
    if not sound:
        raise _damaged(path, None)
    return dict(report)


def _read_keys(
    folder: Path, report: Mapping[str, Any]
) -> tuple[dict[str, set[str]], list[Problem]]:
    """The chosen keys by source, read piece by piece, and what is wrong with the ids."""
    path = folder / ROWS
    keys: dict[str, set[str]] = {}
    nameless: list[str] = []
    twice: list[str] = []
    count = 0
    try:
        if hash_of_rows(folder) != report["rows_hash"]:
            raise _damaged(path, "not what was written")
        for name in _ids(path):
            source, slash, key = name.partition("/")
            count += 1
            if not slash:
                nameless.append(name)
            elif key in keys.setdefault(source, set()):
                twice.append(name)
            else:
                keys[source].add(key)
    except (OSError, pyarrow.ArrowException, ValueError, KeyError, AttributeError) as error:
        raise _damaged(path, str(error).partition("\n")[0]) from None
    if count != report["chosen"]:
        raise _damaged(path, f"{counted(count, 'sample')}, {report['chosen']:,} in {REPORT}")
    problems = []
    if nameless:
        problems.append(
            Problem(
                "ids without the name of a source",
                str(path),
                _some(nameless),
                "Select from sources, or give --ids of the form LANGUAGE/KEY",
            )
        )
    if twice:
        remedy = "Give each row an id of its own, and select again"
        problems.append(Problem("ids that are there twice", str(path), _some(twice), remedy))
    return keys, problems


def _ids(path: Path) -> Iterator[str]:
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(_IDS, columns=["id"]):
            yield from batch.column("id").to_pylist()


def _language_problems(
    path: Path, languages: Collection[str], keys: Mapping[str, set[str]], sources: str
) -> list[Problem]:
    problems = []
    foreign = [f"{name} {len(keys[name]):,}" for name in keys if name not in languages]
    if foreign:
        problems.append(
            Problem(
                "the selection has samples of languages that the run does not have",
                str(path),
                ", ".join(foreign),
                f"Add them to {sources}, or select from the sources of the run, under "
                "the same names: LANGUAGE=SOURCE",
            )
        )
    without = [language for language in languages if language not in keys]
    if without:
        problems.append(
            Problem(
                "the selection has no sample of some languages of the run",
                str(path),
                ", ".join(without),
                f"Take them out of {sources}, or select again with --minimum or --proportional",
            )
        )
    return problems


def _find(reader: ShardReader, keys: set[str]) -> Chosen:
    """The numbers of the samples with these keys."""
    missing = set(keys)
    problems: list[Problem] = []
    shards: list[Int64Array] = []
    for shard in range(len(reader.manifest.shards)):
        numbers: list[int] = []
        try:
            names = reader.keys(shard)
        except UserError as error:
            problems += error.problems
            continue
        for number, key in enumerate(names):
            if key in missing:
                missing.remove(key)
                numbers.append(number)
        shards.append(np.array(numbers, dtype=np.int64))
    if missing and not problems:
        problems.append(
            Problem(
                "chosen samples that the source does not have",
                reader.url,
                _some(sorted(missing)),
                "Select again from the source as it is: headrace select",
            )
        )
    if problems:
        raise SelectionError(problems)
    return Chosen(tuple(shards))


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{len(names):,}: {shown}, ..."


def _damaged(path: Path, value: str | None) -> SelectionError:
    remedy = "Delete the folder, and select again: headrace select"
    return SelectionError(Problem("the selection is damaged", str(path), value, remedy))
