"""Splits a source into parts, each a source of its own."""

from __future__ import annotations

import json
import logging
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from tqdm import tqdm

from headrace.corpus import split_plan
from headrace.corpus.build import finished_before
from headrace.corpus.split_plan import OTHER_SPLIT, Plan, names_in_plan, read_plan, write_plan
from headrace.corpus.split_rows import Rows, read_rows
from headrace.corpus.split_rules import Division, Rule
from headrace.corpus.statistics import Statistics
from headrace.counts import counted
from headrace.errors import CorpusError, MissingExtraError, Problem, UserError
from headrace.shards import storage
from headrace.shards.ledger import LEDGER_NAME
from headrace.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from headrace.shards.reader import ShardReader, open_readers
from headrace.shards.writer import ShardWriter, delete_source

RECORD = "split.json"
PAGE = "report.html"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_RECIPE = 1
"""Raise it when the same source and settings give other parts than before."""
_OF_THE_WHOLE = ("repairs", "repeated_ids")
"""Metadata of a source that are not true of a part of it."""
_NOT_TOLD = ("source", "recipe", "names", "samples_per_shard")
"""Settings that a manifest does not repeat."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """What is in the folder of a split."""

    record: Mapping[str, Any]
    """``split.json``: ``source``, ``settings``, ``parts``, and what the rule found out."""
    made: bool
    """False if it was there already."""


def split_source(
    source_url: str,
    output_url: str,
    rule: Rule,
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    limit: int | None = None,
    samples_per_shard: int = 10_000,
    overwrite: bool = False,
    problems: Sequence[Problem] = (),
) -> Split:
    """Write each part of a source into a folder of its own below ``output_url``.

    Samples with the same text (see :func:`headrace.corpus.split_rows.comparable`) are in one part.
    Parts keep the order of the source.  ``parts.parquet`` says first which sample goes where
    (``row`` in the source, ``id``, ``part``); the parts follow, shard by shard, and ``split.json``
    comes last.  Started again after an interruption the work goes on where it was; the same call
    again does nothing.

    Args:
        source_url: folder of the source; its samples have the fields ``txt`` and ``json``.
        output_url: folder of the split.
        rule: what goes where.
        names: of the parts, which are the names of their folders and shards too.
        seed: of all that is drawn.
        limit: split only so many samples, see :func:`headrace.corpus.split_rows.read_rows`.
        samples_per_shard: samples in every shard of a part but the last.
        overwrite: replace the split in the folder.
        problems: what the caller has found wrong; raised with all else.

    The metadata of a part are those of the source, with counts of its own and with ``split_of``:
    name and fingerprint of the source, the settings, and the sizes of all parts.

    Raises:
        UserError: with all that is wrong with settings, source and output.
    """
    reader = _checked(source_url, output_url, rule, names, seed, limit, samples_per_shard, problems)
    with reader:
        chosen = tuple(names or rule.names or ())
        settings = {
            **rule.settings(),
            "names": list(chosen),
            "seed": seed,
            "limit": limit,
            "level": _level(reader),
            "samples_per_shard": samples_per_shard,
            "source": reader.manifest.fingerprint,
            "recipe": _RECIPE,
        }
        text = json.dumps(settings, sort_keys=True)
        fingerprint = xxhash.xxh3_128_hexdigest(text.encode())
        plan = None
        if not overwrite:
            found = _finished(output_url, chosen, fingerprint)
            if found is not None:
                return Split(found, made=False)
            plan = read_plan(output_url, fingerprint, settings)
            if plan is None:
                _refuse_others(output_url, chosen)
        if plan is None:
            plan, page = _plan(reader, rule, chosen, settings, output_url)
            if overwrite:
                _delete_split(output_url, chosen)
            if page is not None:
                storage.make_folder(output_url)
                storage.write_atomically(storage.join(output_url, PAGE), page)
            write_plan(output_url, plan, fingerprint, settings)
        source = _source_of(reader, source_url)
        about = {
            "source": source,
            **_told(settings),
            "level": settings["level"] + (settings["by"] == "share"),
            **plan.facts,
            "parts": plan.sizes(chosen),
        }
        manifests = _write_parts(
            reader, output_url, chosen, plan, about, fingerprint, samples_per_shard
        )
        record = {
            "fingerprint": fingerprint,
            "source": source,
            "settings": settings,
            "parts": {
                name: {
                    "samples": manifest.samples,
                    "share": round(manifest.samples / len(plan.numbers), 6),
                    "tokens": manifest.metadata["tokens"],
                    "fingerprint": manifest.fingerprint,
                }
                for name, manifest in manifests.items()
            },
            **plan.facts,
            **plan.tables,
        }
        document = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        storage.write_atomically(storage.join(output_url, RECORD), document.encode("utf-8"))
        return Split(record, made=True)


def _checked(
    source_url: str,
    output_url: str,
    rule: Rule,
    names: Sequence[str] | None,
    seed: int,
    limit: int | None,
    samples_per_shard: int,
    found: Sequence[Problem],
) -> ShardReader:
    problems = list(found)
    if storage.is_empty(output_url):
        problems.append(Problem("the path is empty", "output", None, "Name the split's folder"))
    elif storage.exists(storage.join(output_url, MANIFEST_NAME)):
        remedy = "Name a folder that holds no source"
        problems.append(Problem("a source is in this folder", "output", output_url, remedy))
    elif _folder(storage.join(source_url, "..")) == _folder(output_url):
        remedy = "Name another folder"
        what = "the source lies among the parts that would be written"
        problems.append(Problem(what, "output", output_url, remedy))
    for option, count, least in (
        ("samples_per_shard", samples_per_shard, 1),
        ("limit", limit, 1),
        ("seed", seed, 0),
    ):
        if count is not None and count < least:
            remedy = f"Give {least} or more"
            problems.append(Problem("out of range", option, str(count), remedy))
    problems += _name_problems(names, rule)
    reader = open_readers([source_url], problems).get(source_url)
    samples = None if reader is None else len(reader)
    if samples is not None and limit is not None and limit >= 1:
        samples = min(samples, limit)
    problems += rule.problems(samples)
    if problems or reader is None:
        raise UserError(problems)
    return reader


def _folder(url: str) -> str:
    """The same text for the same folder, however it is written."""
    if storage.is_local(url):
        return os.path.realpath(storage.local_path(url))
    scheme, separator, path = url.partition("://")
    return scheme + separator + posixpath.normpath(path)


def _name_problems(names: Sequence[str] | None, rule: Rule) -> list[Problem]:
    if names is None:
        if rule.names is not None:
            return []
        remedy = "Give as many names as there are parts"
        return [Problem(f"{rule.parts} parts have no usual names", "names", None, remedy)]
    problems = []
    if len(names) != rule.parts:
        what = f"{counted(len(names), 'name')} for {counted(rule.parts, 'part')}"
        problems.append(Problem(what, "names", ",".join(names), "Give each part one name"))
    for name in names:
        if not _NAME.fullmatch(name):
            remedy = "Use letters, digits, _ and -, at most 40"
            problems.append(Problem("not a plain name", "names", repr(name)[:80], remedy))
    if len({name.lower() for name in names}) < len(names):
        what = "two parts would have one folder"
        problems.append(Problem(what, "names", ",".join(names), "Give each part its own name"))
    return problems


def _finished(output_url: str, names: Sequence[str], fingerprint: str) -> dict[str, Any] | None:
    """The record of this very split if it is in the folder whole."""
    url = storage.join(output_url, RECORD)
    if not storage.exists(url):
        return None
    try:
        record = json.loads(storage.read_bytes(url))
        same = record["fingerprint"] == fingerprint
    except (ValueError, KeyError, TypeError) as error:
        what = "the record of the split cannot be read"
        raise CorpusError(Problem(what, url, str(error), OTHER_SPLIT)) from error
    parts = [storage.join(output_url, name) for name in names]
    if not same or any(finished_before(part, fingerprint) is None for part in parts):
        return None
    return dict(record)


def _delete_split(output_url: str, names: Sequence[str]) -> None:
    """Delete what a split has left, that of other settings too; the record goes first."""
    old = names_in_plan(output_url)
    for file in (RECORD, PAGE):
        storage.delete(storage.join(output_url, file))
    for name in dict.fromkeys([*old, *names]):
        if _NAME.fullmatch(name):
            delete_source(storage.join(output_url, name))
    storage.delete(storage.join(output_url, split_plan.FILE))


def _refuse_others(output_url: str, names: Sequence[str]) -> None:
    """Raise if there is something at the place of a part, before anything is computed."""
    problems = []
    for name in names:
        url = storage.join(output_url, name)
        files = storage.list_files(url)
        if any(file.endswith(".tar") or file in (MANIFEST_NAME, LEDGER_NAME) for file in files):
            what = "there are shards of something else in the folder of a part"
            problems.append(Problem(what, "output", url, OTHER_SPLIT))
    if problems:
        raise CorpusError(problems)


def _plan(
    reader: ShardReader,
    rule: Rule,
    names: Sequence[str],
    settings: Mapping[str, Any],
    output_url: str,
) -> tuple[Plan, bytes | None]:
    """What goes where, and the page, if there is one."""
    rows = read_rows(reader, settings["seed"], settings["limit"], level=settings["level"])
    division = rule.divide(rows)
    plan = Plan(rows.numbers, rows.keys, division.parts, division.facts, division.tables)
    empty = [name for name, size in plan.sizes(names).items() if not size]
    if empty:
        what = f"no sample falls into {', '.join(empty)}"
        of = counted(len(rows), "sample")
        raise CorpusError(Problem(what, "by", f"{settings['by']} of {of}", rule.if_empty))
    return plan, _page(output_url, division, plan, rows, names, settings)


def _page(
    output_url: str,
    division: Division,
    plan: Plan,
    rows: Rows,
    names: Sequence[str],
    settings: Mapping[str, Any],
) -> bytes | None:
    """The page of what the rule has to show; None, with a warning, without the extra ``report``."""
    if division.picture is None:
        return None
    from headrace.report.split_page import render_split

    try:
        page = render_split(
            storage.name_of(output_url),
            _source_of(rows.reader, rows.reader.url),
            plan.sizes(names),
            {**division.facts, **division.tables},
            division.picture,
            settings,
        )
    except MissingExtraError as error:
        _log.warning("%s is left out: %s", PAGE, error.problems[0])
        return None
    return page.encode("utf-8", errors="replace")


def _write_parts(
    reader: ShardReader,
    output_url: str,
    names: Sequence[str],
    plan: Plan,
    about: Mapping[str, Any],
    fingerprint: str,
    samples_per_shard: int,
) -> dict[str, Manifest]:
    """Write the parts that are not finished, all in one pass over the source."""
    part_of = np.full(len(reader), -1, np.int32)
    part_of[plan.numbers] = plan.parts
    with ExitStack() as stack:
        writers: dict[int, ShardWriter] = {}
        for number, name in enumerate(names):
            url = storage.join(output_url, name)
            if finished_before(url, fingerprint) is None:
                writer = ShardWriter(
                    url,
                    name=name,
                    samples_per_shard=samples_per_shard,
                    fingerprint=fingerprint,
                    parent=reader.manifest.fingerprint,
                )
                writers[number] = stack.enter_context(writer)
        statistics = {number: Statistics() for number in writers}
        parts = tqdm(part_of.tolist(), "write", unit=" samples", disable=None)
        for sample, part in zip(reader if writers else (), parts, strict=False):
            if part in writers:
                statistics[part].count(sample)
                writers[part].write(sample)
        for number, writer in writers.items():
            kept = {
                key: value
                for key, value in reader.manifest.metadata.items()
                if key not in _OF_THE_WHOLE
            }
            writer.metadata |= {
                **kept,
                **statistics[number].to_metadata(),
                "split": names[number],
                "split_of": about,
                "build": fingerprint,
            }
    return {name: read_manifest(storage.join(output_url, name)) for name in names}


def _level(reader: ShardReader) -> int:
    """How many splits by share the source comes from."""
    told = reader.manifest.metadata.get("split_of")
    level = told.get("level") if isinstance(told, dict) else None
    return level if isinstance(level, int) else 0


def _source_of(reader: ShardReader, url: str) -> dict[str, Any]:
    """What the source is called; the folder it lies in may change."""
    metadata = reader.manifest.metadata
    known = {key: metadata[key] for key in ("language", "split") if key in metadata}
    return {
        "name": storage.name_of(url.rstrip("/")),
        **known,
        "samples": len(reader),
        "fingerprint": reader.manifest.fingerprint,
    }


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say how a part came about."""
    return {key: value for key, value in settings.items() if key not in _NOT_TOLD}
