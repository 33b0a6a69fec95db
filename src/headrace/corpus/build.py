"""Builds a source from corpus files: check everything first, then write."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xxhash
from tqdm import tqdm

from headrace.corpus.language import language_problems
from headrace.corpus.readers import (
    CHOICE_FORMATS,
    FORMATS,
    LABELLED_FORMATS,
    Columns,
    Findings,
    detect_format,
    read,
)
from headrace.corpus.readers.findings import MOST_PROBLEMS
from headrace.corpus.statistics import Statistics
from headrace.errors import CorpusError, Problem, ShardError
from headrace.shards import storage
from headrace.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from headrace.shards.reader import missing_files
from headrace.shards.sample import Sample
from headrace.shards.writer import ShardWriter

if TYPE_CHECKING:
    from headrace.tasks.labels import LabelSet

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_RECIPE = 1
"""Raise it when the same input gives other samples than before."""


@dataclass
class _Inputs:
    """What the check of the inputs found out about them."""

    formats: list[str] = field(default_factory=list)
    counts: Statistics = field(default_factory=Statistics)
    """Of the samples to be written."""
    repairs: Counter[str] = field(default_factory=Counter)
    repeated: list[dict[str, Any]] = field(default_factory=list)
    identities: list[dict[str, Any]] = field(default_factory=list)


def build_source(
    inputs: Sequence[str],
    output_url: str,
    language: str,
    *,
    format: str = "auto",
    split: str | None = None,
    samples_per_shard: int = 10_000,
    labels: str | None = None,
    limit: int | None = None,
    subset: str | None = None,
    columns: Columns | None = None,
    repair: bool = False,
    overwrite: bool = False,
) -> Manifest:
    """Read corpus files and write them, in the order given, as one source.

    All inputs are read and checked to the end before the first byte is written.  The build goes
    on where it was when it is started again after an interruption; a finished source made from
    the same inputs with the same options is left as it is.

    Args:
        inputs: URLs of corpus files.
        output_url: Folder of the source.
        language: BCP-47 tag, such as ``en`` or ``pt-BR``.
        format: See :func:`headrace.corpus.readers.read`.
        split: Name of the split, also the first part of the shards' names (``shard`` if None).
        samples_per_shard: Samples in every shard but the last.
        labels: Label set (name or file) that every tag must be in.
        limit: Take only the first samples of all inputs together.
        subset: Name of the subset, written into each sample.
        columns: Columns of texts and labels, where they do not have their usual names.
        repair: Mend byte order marks, Windows line ends and I- tags without B-; the counts go
            into the manifest.
        overwrite: Replace the source or the interrupted build in the folder.

    Returns the manifest, whose metadata has ``language``, ``split``, ``subset``, ``sentences``,
    ``tokens``, ``repairs``, ``repeated_ids``, ``inputs`` (name, bytes, xxh3-128) and ``build``
    (fingerprint of inputs and options); of multiple-choice questions also ``choices`` (the most
    that one has), ``answers`` (by position) and ``questions`` (by what is asked), of all others
    ``entities`` (by type) and ``domains``, and where there are any ``labels`` (samples by label)
    and ``scores`` (how many, the least and the greatest).

    Raises :class:`CorpusError` for all problems of all inputs, :class:`LabelError` for the label
    set, :class:`ShardError` for the output.
    """
    if columns is not None and columns.is_empty:
        columns = None
    _check_options(
        inputs, output_url, language, format, split, samples_per_shard, limit, subset, columns
    )
    label_set = _load_labels(labels)
    checked = _check_inputs(inputs, format, language, subset, columns, repair, label_set, limit)
    options = {
        "recipe": _RECIPE,
        "formats": checked.formats,
        "language": language,
        "split": split,
        "samples_per_shard": samples_per_shard,
        "limit": limit,
        "subset": subset,
        "repair": repair,
        "inputs": checked.identities,
        **({"columns": vars(columns)} if columns is not None else {}),
    }
    fingerprint = xxhash.xxh3_128_hexdigest(json.dumps(options, sort_keys=True).encode())
    if not overwrite:
        finished = finished_before(output_url, fingerprint)
        if finished is not None:
            return finished
    with ShardWriter(
        output_url,
        name=split or "shard",
        samples_per_shard=samples_per_shard,
        fingerprint=fingerprint,
        overwrite=overwrite,
    ) as writer:
        writer.metadata.update(_metadata(checked, language, split, subset, fingerprint))
        samples = _samples(inputs, checked.formats, language, subset, columns, repair, limit)
        total = checked.counts.sentences
        for sample in tqdm(samples, "write", total, unit=" sentences", disable=None):
            writer.write(sample)
        return writer.close()


def _check_options(
    inputs: Sequence[str],
    output_url: str,
    language: str,
    format: str,
    split: str | None,
    samples_per_shard: int,
    limit: int | None,
    subset: str | None,
    columns: Columns | None,
) -> None:
    problems = []
    if not inputs:
        problems.append(Problem("no input files", "inputs", None, "Name at least one file"))
    problems += _named_twice(inputs)
    if storage.is_empty(output_url):
        problems.append(Problem("the path is empty", "output", None, "Name the source's folder"))
    problems += language_problems(language, "language")
    if format not in (*FORMATS, "auto"):
        remedy = f"Use one of auto, {', '.join(FORMATS)}"
        problems.append(Problem("no such format", "format", format, remedy))
    for option, count in (("samples_per_shard", samples_per_shard), ("limit", limit)):
        if count is not None and count < 1:
            problems.append(Problem("out of range", option, str(count), "Give 1 or more"))
    for option, name in (("split_name", split), ("subset", subset)):
        if name is not None and not _NAME.fullmatch(name):
            remedy = "Use letters, digits, _ and -, at most 40"
            problems.append(Problem("not a plain name", option, repr(name)[:80], remedy))
    if columns is not None:
        problems += _column_problems(columns, format)
    if problems:
        raise CorpusError(problems)


def _column_problems(columns: Columns, format: str) -> list[Problem]:
    """What is wrong with the columns that are named, before a file is opened."""
    problems = []
    names = ", ".join(columns.named.values()) or ", ".join(columns.label_names)
    if format not in (*LABELLED_FORMATS, "auto"):
        what = f"columns are named for {' and '.join(LABELLED_FORMATS)}"
        problems.append(Problem(what, "format", format, "Change it, or name no columns"))
    if columns.pair is not None and columns.text is None:
        remedy = "Name the column of the first text too"
        problems.append(Problem("the first text is not named", "pair_column", columns.pair, remedy))
    if len(set(columns.named.values())) < len(columns.named):
        what = "a column is named for two things"
        problems.append(Problem(what, "columns", names, "Name each once"))
    labels = columns.label_names
    if labels and (
        len(labels) < 2 or len(set(labels)) < len(labels) or not all(map(str.strip, labels))
    ):
        remedy = "Give two or more different names, the first of them for 0"
        problems.append(
            Problem("not names of labels", "label_names", ",".join(labels)[:80], remedy)
        )
    return problems


def _named_twice(inputs: Sequence[str]) -> list[Problem]:
    """A problem for each file that is named more than once, under whatever paths."""
    first: dict[str, str] = {}
    problems: dict[str, Problem] = {}
    for url in inputs:
        if storage.is_empty(url):
            continue
        local = storage.is_local(url)
        file = os.path.realpath(storage.local_path(url)) if local else url
        if file in first:
            value = url if url != first[file] else None
            what, remedy = "an input is named twice", "Name each input once"
            problems.setdefault(file, Problem(what, first[file], value, remedy))
        first.setdefault(file, url)
    return list(problems.values())


def _load_labels(labels: str | None) -> LabelSet | None:
    if labels is None:
        return None
    from headrace.tasks.labels import load_label_set

    return load_label_set(labels)


def _check_inputs(
    inputs: Sequence[str],
    format: str,
    language: str,
    subset: str | None,
    columns: Columns | None,
    repair: bool,
    label_set: LabelSet | None,
    limit: int | None,
) -> _Inputs:
    """Read every input to its end."""
    problems: list[Problem] = []
    checked = _Inputs()
    origins: dict[str, str] = {}
    clashes = 0
    with tqdm(desc="check", unit=" sentences", disable=None) as bar:
        for url in inputs:
            findings = Findings(url, repair=repair, label_set=label_set)
            try:
                chosen = detect_format(url, columns) if format == "auto" else format
                checked.formats.append(chosen)
                for sample in read(
                    url,
                    chosen,
                    language=language,
                    subset=subset,
                    findings=findings,
                    columns=columns,
                ):
                    bar.update()
                    first = origins.setdefault(sample.key, sample.origin)
                    if first != sample.origin:
                        clashes += 1
                        if clashes <= MOST_PROBLEMS:
                            problems.append(_used_twice(sample, first))
                    if limit is None or checked.counts.sentences < limit:
                        checked.counts.count(sample)
                checked.identities.append(_identity(url))
            except CorpusError as error:
                problems += error.problems
            checked.repairs.update(findings.repairs)
            checked.repeated += [
                {"input": storage.name_of(url), **vars(repeated)} for repeated in findings.repeated
            ]
    if clashes > MOST_PROBLEMS:
        what = f"{clashes - MOST_PROBLEMS} more keys are used by two sentences"
        problems.append(Problem(what, "inputs", None, "Name each input once"))
    if not problems:
        problems += _mixed_kinds(inputs, checked.formats)
        if label_set is not None and set(checked.formats) & set(LABELLED_FORMATS):
            what = "a label set is for words with tags, and these are labels of whole texts"
            problems.append(Problem(what, "labels", label_set.name, "Leave it out"))
    if problems:
        raise CorpusError(problems)
    return checked


def _mixed_kinds(inputs: Sequence[str], formats: Sequence[str]) -> list[Problem]:
    """A problem if some inputs are multiple-choice questions or labelled texts, others not."""
    if len({(format in CHOICE_FORMATS, format in LABELLED_FORMATS) for format in formats}) < 2:
        return []
    named = ", ".join(
        f"{storage.name_of(url)} {format}" for url, format in zip(inputs, formats, strict=True)
    )
    choice = any(format in CHOICE_FORMATS for format in formats)
    kind = "multiple-choice questions" if choice else "labelled texts"
    what = f"{kind} and other samples cannot be one source"
    return [Problem(what, "inputs", named, "Build a source of each kind")]


def _used_twice(sample: Sample, first: str) -> Problem:
    return Problem(
        f"the key is used by another sentence too, at {first}",
        sample.origin,
        sample.key,
        "Give each sentence an id of its own, or name each input once",
    )


def _identity(url: str) -> dict[str, Any]:
    """Name, size and hash of an input; the folder it lies in may change between two starts."""
    digest = xxhash.xxh3_128()
    size = 0
    with storage.open_for_reading(url) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return {"name": storage.name_of(url), "bytes": size, "xxh3_128": digest.hexdigest()}


def _samples(
    inputs: Sequence[str],
    formats: Sequence[str],
    language: str,
    subset: str | None,
    columns: Columns | None,
    repair: bool,
    limit: int | None,
) -> Iterator[Sample]:
    count = 0
    for url, format in zip(inputs, formats, strict=True):
        findings = Findings(url, repair=repair)
        for sample in read(
            url, format, language=language, subset=subset, findings=findings, columns=columns
        ):
            if count == limit:
                return
            count += 1
            yield sample


def finished_before(output_url: str, fingerprint: str) -> Manifest | None:
    """The manifest of the finished source in the folder, if it was made by this very build."""
    if not storage.exists(storage.join(output_url, MANIFEST_NAME)):
        return None
    manifest = read_manifest(output_url)
    if manifest.metadata.get("build") != fingerprint:
        return None
    problems = missing_files(output_url, manifest.shards)
    if problems:
        raise ShardError(problems)
    return manifest


def _metadata(
    checked: _Inputs,
    language: str,
    split: str | None,
    subset: str | None,
    fingerprint: str,
) -> Mapping[str, Any]:
    optional = {"split": split, "subset": subset}
    return {
        "language": language,
        **{name: value for name, value in optional.items() if value is not None},
        **checked.counts.to_metadata(),
        "repairs": dict(sorted(checked.repairs.items())),
        "repeated_ids": checked.repeated,
        "inputs": checked.identities,
        "build": fingerprint,
    }
