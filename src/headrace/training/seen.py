"""Which steps and checkpoints of a run have seen given documents: computed, not recorded.

The sample at a position is a pure function of the config and the sources, and a removed one keeps
its position.  So the plan says at which steps a document was in a batch; ``removed.jsonl`` of a
branch says from which step on it had been replaced.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from headrace.config import RunConfig, load_run_config
from headrace.errors import ConfigError, Problem
from headrace.stream.packing import samples_of
from headrace.training.checkpoint_marker import MARKER, step_of
from headrace.training.data import RunData, encode_data, open_data, plan_batches
from headrace.training.stages import Branch, expand_stages
from headrace.training.takedowns import FILE as REMOVED_FILE
from headrace.training.takedowns import read_removed


@dataclass(frozen=True)
class Sighting:
    """A document that a branch has learned from."""

    language: str
    key: str
    """Of the sample, in a corpus its id."""
    first_step: int
    """The first step that had it, counted from 1."""
    last_step: int
    steps: int
    """How many had it."""
    removed: bool
    """Whether it is removed by now."""


@dataclass(frozen=True)
class BranchSightings:
    """What a branch has seen of the documents asked for."""

    stage: str
    branch: str
    steps: int
    """Steps that are done, as far as checkpoints and the result say."""
    documents: tuple[Sighting, ...]
    checkpoints: tuple[str, ...]
    """Names of the checkpoints that are there and had seen any of them."""
    exported: bool
    """Whether the exported model had."""
    start_from: str | None
    """The stage whose model it began with: that may have seen more."""

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class _Document:
    language: str
    key: str
    shard: int
    number: int
    epoch: int | None
    """Of its tombstone."""


def documents_seen(run: Path, keys: Collection[str] | None = None) -> list[BranchSightings]:
    """What each branch of a run has seen of some documents.

    Args:
        run: run folder.
        keys: of samples; None: all that were removed from the training data.

    Raises:
        UserError: if the folder is not that of a run, its data cannot be opened, or a key is in
            none of its sources.
    """
    config = load_run_config(run / "config.json", [f"headrace.output={json.dumps(str(run))}"])
    opened = open_data(config)
    documents = list(_documents(opened.train, keys))
    missing = set(keys or ()) - {document.key for document in documents}
    if missing:
        raise ConfigError(
            Problem(
                "no training source has such a sample",
                "--id",
                ", ".join(sorted(missing)[:3]),
                "Give the key of a sample, which in a corpus is the id of the document",
            )
        )
    data = encode_data(opened, config)
    return [
        _of_branch(config, branch, data, [d for d in documents if d.language in branch.languages])
        for branch in expand_stages(config)
        if branch.folder.is_dir()
    ]


def _documents(readers: Any, keys: Collection[str] | None) -> Iterator[_Document]:
    for language, reader in readers.items():
        for shard in range(len(reader.manifest.shards)):
            removed = reader.removed(shard)
            epochs = dict(zip(removed.numbers.tolist(), removed.epochs.tolist(), strict=True))
            if keys is None:
                for number, key in zip(removed.numbers.tolist(), removed.keys, strict=True):
                    yield _Document(language, key, shard, number, epochs[number])
            else:
                for number, key in enumerate(reader.keys(shard)):
                    if key in keys:
                        yield _Document(language, key, shard, number, epochs.get(number))


def _of_branch(
    config: RunConfig, branch: Branch, data: RunData, documents: list[_Document]
) -> BranchSightings:
    data = data.of(branch)
    checkpoints = {
        step_of(path.parent): path.parent.name
        for path in sorted((branch.folder / "checkpoints").glob(f"*/{MARKER}"))
    }
    result: dict[str, Any] = {}
    if branch.result_file.exists():
        result = json.loads(branch.result_file.read_text(encoding="utf-8"))
    done = max([int(result.get("steps", 0)), *checkpoints])
    starts = read_removed(branch.folder / REMOVED_FILE)
    rows: dict[tuple[int, int], dict[int, int]] = {}
    ends: list[int] = []
    for place, document in enumerate(documents):
        source = branch.languages.index(document.language)
        for row in _rows_of(data, document):
            rows.setdefault((source, document.shard), {})[int(row)] = place
        ends.append(_replaced_from(document, starts, done))
    found: list[list[int]] = [[] for _ in documents]
    last = max([0, *ends])
    if rows:
        plan = plan_batches(config, branch, data, as_first_planned=True)
        wanted = {where: np.array(sorted(some)) for where, some in rows.items()}
        for step in tqdm(range(last), desc=branch.title, unit=" steps", disable=None):
            samples = samples_of(plan.batch(step))
            for where, numbers in wanted.items():
                here = (samples.source == where[0]) & (samples.shard == where[1])
                hits = np.intersect1d(samples.sample[here], numbers)
                for place in {rows[where][int(row)] for row in hits}:
                    if step < ends[place]:
                        found[place].append(step + 1)
    sightings = tuple(
        Sighting(d.language, d.key, steps[0], steps[-1], len(steps), d.epoch is not None)
        for d, steps in zip(documents, found, strict=True)
        if steps
    )
    first = min((sighting.first_step for sighting in sightings), default=math.inf)
    best = result.get("best_step")
    return BranchSightings(
        branch.stage.name,
        branch.name,
        done,
        sightings,
        tuple(
            name
            for step, name in sorted(checkpoints.items())
            if first is not None and step >= first
        ),
        first is not None and best is not None and best >= first,
        branch.stage.start_from,
    )


def _rows_of(data: RunData, document: _Document) -> NDArray[np.int64]:
    """The numbers of a document's encoded samples, as the stream counts them."""
    whole = data.whole[document.language]
    nothing = np.zeros(0, dtype=np.int64)
    if document.shard in whole.left_out:
        return nothing
    shard = whole.shards[document.shard]
    own = shard.sequences_of(np.array([document.number]))
    chosen = data.opened.chosen.get(document.language)
    if chosen is None:
        return own
    numbers = chosen.shards[document.shard]
    if document.number not in numbers:
        return nothing
    before = shard.sequences_of(numbers[numbers < document.number])
    return len(before) + np.arange(len(own), dtype=np.int64)


def _replaced_from(document: _Document, starts: list[dict[str, Any]], done: int) -> int:
    """The number of steps before which a document was served."""
    if document.epoch is None:
        return done
    return min(
        (
            start["step"]
            for start in starts
            if start["epochs"].get(document.language, 0) >= document.epoch
        ),
        default=done,
    )
