"""A selection as it is asked for: its settings, and what they name, opened and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from headrace.errors import Problem, SelectionError, UserError
from headrace.selection.checkpoint import DEFAULT_SECONDS
from headrace.selection.checks import method_problems, one_pass_problems, parts_problems
from headrace.selection.chosen import METHODS, Method, Objective
from headrace.selection.doc2vec import Doc2VecSettings
from headrace.selection.encoder import load_encoder
from headrace.selection.hinge import Hinge
from headrace.selection.indexes import IndexSettings, load_faiss
from headrace.selection.inputs import Inputs, Sources, by_language, from_files
from headrace.selection.limits import Facts, Limits, group_problems, room
from headrace.selection.measures import DEFAULT_DUPLICATE_COSINE
from headrace.selection.metadata_groups import groups_by
from headrace.selection.one_pass import SAMPLE_ROWS, WARM_PASSES
from headrace.selection.partitioned import DEFAULT_PARTS
from headrace.selection.selection import DEFAULT_HINGE, DEFAULT_TRADE_OFF
from headrace.selection.vectors import read_ids
from headrace.shards import storage
from headrace.shards.reader import open_readers

if TYPE_CHECKING:
    from headrace.shards.cache import ShardCache

DEFAULT_CACHE = ".headrace/embeddings"


@dataclass(frozen=True)
class SelectionJob:
    """Everything that says what to choose from what; problems are named by these fields.

    Either ``sources`` with an ``encoder`` or ``doc2vec``, or ``vectors``.
    """

    output: str
    """Local folder of the result, which all ranks see."""
    limits: Limits
    """How many samples, and quotas of the groups."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """URL of each source by name; one that is named by its URL is called by its language."""
    encoder: str | None = None
    """Folder or hub name of a model."""
    pooling: Literal["mean", "cls"] = "mean"
    """Mean of the last hidden states, or that of the first token."""
    max_length: int = 128
    """Tokens of a sample that the encoder reads."""
    doc2vec: Doc2VecSettings | None = None
    """How to train a Doc2Vec model on the samples, in place of an encoder."""
    cache: str = DEFAULT_CACHE
    """Local folder of the vectors that are made, which all ranks see."""
    shard_cache: ShardCache | None = None
    """Keeps copies of remote shards."""
    vectors: str | None = None
    """``.npy`` file of ready-made vectors ``[rows, d]``, or Parquet files of them."""
    ids: str | None = None
    """File with the id of each row of ``vectors``."""
    costs: str | None = None
    """File with the tokens of each row of ``vectors``."""
    group_by: str | None = None
    """Field of each sample's ``json`` whose values are the groups; None for the sources."""
    require: str | None = None
    """File of ids that must be in."""
    objective: Objective = "graph_cut"
    """What is maximised."""
    method: Method | None = None
    """None for the first one of the objective."""
    index: IndexSettings = field(default_factory=IndexSettings)
    """How neighbours are looked for, where the objective has a neighbour graph."""
    hinge: Hinge = DEFAULT_HINGE
    """What ``graph_cut_hinge`` takes from the graph cut."""
    parts: int = DEFAULT_PARTS
    """In how many parts ``greedi`` cuts the rows."""
    trade_off: float | Literal["balanced"] = DEFAULT_TRADE_OFF
    """lambda, or ``n/k - 2``."""
    seed: int = 0
    """Of the method ``random``, and of the sample of ``one_pass``."""
    sample_rows: int = SAMPLE_ROWS
    """Samples that ``one_pass`` solves first."""
    warm_passes: int = WARM_PASSES
    """Passes of ``one_pass`` that correct what these say."""
    duplicate_cosine: float = DEFAULT_DUPLICATE_COSINE
    """From this cosine on the report counts a row as a copy of another: above 0, at most 1."""
    checkpoint_seconds: float = DEFAULT_SECONDS
    """How often a solver's state is written below the output, to go on from; 0 or more."""


@dataclass(frozen=True)
class Task:
    """A job that was checked: its sources are open, its files read."""

    job: SelectionJob
    output: Path
    settings: Mapping[str, Any]
    """All that decides what is chosen and what is reported of it, as JSON."""
    required: NDArray[np.bytes_] | None
    sources: Sources | None
    inputs: Inputs | None
    """Of ready-made vectors."""

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: equal for jobs that choose the same from the same."""
        return xxhash.xxh3_128_hexdigest(json.dumps(self.settings, sort_keys=True).encode())

    def embedded(self, *, show: bool) -> Inputs:
        """The vectors; those that are not in the cache are made.  ``show``: progress bars."""
        if self.inputs is not None:
            return self.inputs
        assert self.sources is not None
        grouped = None
        if self.job.group_by is not None:
            # first, as embedding takes long and this may be refused
            grouped = groups_by(self.sources.readers, self.job.group_by, show=show)
            problems = group_problems(self.job.limits, grouped[1])
            if problems:
                raise SelectionError(problems)
        inputs = self.sources.embed(self.job.cache, show=show)
        if grouped is None:
            return inputs
        groups, names = grouped
        return replace(
            inputs, candidates=replace(inputs.candidates, groups=groups, group_names=names)
        )


def check(job: SelectionJob, problems: Sequence[Problem] = ()) -> Task:
    """Open and read what the job names.

    Raises:
        UserError: with all that is wrong, and with the ``problems`` that the caller has found.
    """
    problems = [*problems, *_combination_problems(job)]
    if job.objective != "graph_cut":
        try:
            load_faiss()
            problems += job.index.problems() + job.hinge.problems()
        except UserError as error:
            problems += error.problems
    output = sources = required = inputs = None
    fingerprint = ""
    try:
        output = storage.local_folder(job.output, "output")
    except UserError as error:
        problems += error.problems
    try:
        if job.require is not None:
            required = read_ids(job.require, "require")
    except UserError as error:
        problems += error.problems
    try:
        if job.vectors is not None:
            inputs, fingerprint = from_files(job.vectors, job.ids, job.costs, job.cache)
        else:
            sources = _sources(job, problems)
    except UserError as error:
        problems += error.problems
    problems += _limit_problems(job, sources, inputs)
    if problems or output is None:
        raise UserError(problems)
    if sources is not None:
        fingerprint = sources.fingerprint
    return Task(job, output, _settings(job, fingerprint, required), required, sources, inputs)


def _combination_problems(job: SelectionJob) -> list[Problem]:
    problems = []
    if not 0 < job.duplicate_cosine <= 1:
        value = str(job.duplicate_cosine)
        problems.append(Problem("out of range", "duplicate_cosine", value, "Above 0, at most 1"))
    if not job.checkpoint_seconds >= 0:
        value = str(job.checkpoint_seconds)
        problems.append(Problem("out of range", "checkpoint_seconds", value, "0 or more"))
    if job.vectors is None:
        if not job.sources or (job.encoder is None and job.doc2vec is None):
            problems.append(
                Problem(
                    "nothing to choose from",
                    "sources",
                    remedy="Give sources and an encoder or Doc2Vec, or vectors",
                )
            )
        elif job.encoder is not None and job.doc2vec is not None:
            problems.append(
                Problem("Doc2Vec needs no encoder", "encoder", job.encoder, "Give either")
            )
        for name in ("ids", "costs"):
            if getattr(job, name) is not None:
                problems.append(Problem("goes with vectors only", name, remedy="Leave it out"))
    elif job.group_by is not None:
        remedy = "Leave it out: ready-made vectors bring their groups along"
        problems.append(Problem("goes with sources only", "group_by", job.group_by, remedy))
    elif job.sources or job.encoder is not None or job.doc2vec is not None:
        problems.append(
            Problem(
                "vectors that are there already need no sources and no encoder",
                "vectors",
                job.vectors,
                "Give either",
            )
        )
    return problems


def _limit_problems(
    job: SelectionJob, sources: Sources | None, inputs: Inputs | None
) -> list[Problem]:
    """What is wrong with method and limits, as far as it is known before there are vectors."""
    method = job.method or METHODS[job.objective][0]
    problems = method_problems(job.objective, method, job.trade_off, job.limits)
    problems += parts_problems(job.parts)
    if method == "one_pass":
        problems += one_pass_problems(job.limits, job.sample_rows, job.warm_passes)
    if job.limits.budget is not None or (sources is None and inputs is None):
        return problems  # tokens are counted by what embeds
    limits = job.limits
    if job.group_by is not None:
        # groups are known when the samples have been read
        limits = replace(limits, minimum={}, maximum={}, proportional=False)
    if sources is not None:
        names = tuple(sources.readers)
        sizes = np.array([len(reader) for reader in sources.readers.values()], dtype=np.int64)
    else:
        assert inputs is not None
        names = inputs.candidates.group_names
        sizes = np.bincount(inputs.candidates.groups, minlength=len(names)).astype(np.int64)
    return problems + room(limits, Facts(names, sizes, np.zeros_like(sizes)))[1]


def _sources(job: SelectionJob, problems: list[Problem]) -> Sources | None:
    try:
        storage.local_folder(job.cache, "cache")
    except UserError as error:
        problems += error.problems
    if job.doc2vec is not None:
        problems += job.doc2vec.problems()
    opened = open_readers(job.sources.values(), problems, job.shard_cache)
    if problems:
        return None
    readers = by_language({name: opened[url] for name, url in job.sources.items()}, problems)
    if job.doc2vec is not None:
        return None if problems else Sources(readers, job.doc2vec)
    if job.encoder is None:
        return None  # a problem that was found before
    encoder = load_encoder(job.encoder, pooling=job.pooling, max_length=job.max_length)
    return None if problems else Sources(readers, encoder)


def _settings(
    job: SelectionJob, inputs: str, required: NDArray[np.bytes_] | None
) -> dict[str, Any]:
    limits, method = job.limits, job.method or METHODS[job.objective][0]
    return {
        "rows": limits.rows,
        "fraction": limits.fraction,
        "budget": limits.budget,
        "minimum": dict(limits.minimum),
        "maximum": dict(limits.maximum),
        "proportional": limits.proportional,
        "group_by": job.group_by,
        "objective": job.objective,
        "index": None if job.objective == "graph_cut" else asdict(job.index),
        "hinge": asdict(job.hinge) if job.objective == "graph_cut_hinge" else None,
        "parts": job.parts if method == "greedi" else None,
        "method": method,
        "trade_off": job.trade_off,
        "required": None if required is None else _hash_of_ids(required),
        "seed": job.seed if method in ("random", "one_pass") else None,
        "one_pass": [job.sample_rows, job.warm_passes] if method == "one_pass" else None,
        "duplicate_cosine": job.duplicate_cosine,
        "inputs": inputs,
    }


def _hash_of_ids(ids: NDArray[np.bytes_]) -> str:
    return xxhash.xxh3_128_hexdigest(b"\n".join(sorted(set(ids.tolist()))))
