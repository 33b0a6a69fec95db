"""The ledger of an unfinished build: which shards are done, and from what input.

It exists only while a source is being written.  One JSON line for the build, then one for each
finished shard; it is replaced atomically after each shard and deleted after the manifest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.manifest import ShardEntry

LEDGER_NAME = "build-ledger.jsonl"
_START_AGAIN = "Give --overwrite to delete what is there and start again"


@dataclass(frozen=True)
class BuildIdentity:
    """What must be the same for an interrupted build to go on."""

    fingerprint: str
    """Hash of inputs and options, from the caller."""
    name: str
    samples_per_shard: int
    fields: tuple[str, ...]


@dataclass(frozen=True)
class FinishedShard:
    """A shard on disk and the digest of the samples that went into it."""

    entry: ShardEntry
    content: str
    """xxh3-128 (hex) over keys and fields in order."""


def write_ledger(url: str, identity: BuildIdentity, finished: list[FinishedShard]) -> None:
    """Replace the ledger of the folder ``url``."""
    rows = [asdict(identity), *(asdict(shard) for shard in finished)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    storage.write_atomically(storage.join(url, LEDGER_NAME), text.encode())


def read_ledger(url: str, identity: BuildIdentity) -> list[FinishedShard] | None:
    """The finished shards of an interrupted build in ``url``; None if there is no ledger.

    Raises :class:`ShardError` if the build was another one (changed input or options).
    """
    where = storage.join(url, LEDGER_NAME)
    if not storage.exists(where):
        return None
    try:
        first, *rest = [json.loads(line) for line in storage.read_bytes(where).splitlines()]
        found = BuildIdentity(**{**first, "fields": tuple(first["fields"])})
        finished = [FinishedShard(ShardEntry(**row["entry"]), row["content"]) for row in rest]
    except (ValueError, TypeError, KeyError) as error:
        raise ShardError(
            Problem("the ledger of the interrupted build is damaged", where, None, _START_AGAIN)
        ) from error
    if found != identity:
        changed = [
            f"{name} {old!r} -> {new!r}"
            for name, old, new in zip(
                ("input or options", "name", "samples per shard", "fields"),
                asdict(found).values(),
                asdict(identity).values(),
                strict=True,
            )
            if old != new
        ]
        raise ShardError(
            Problem(
                "an interrupted build of another input or with other options is here",
                where,
                "; ".join(changed),
                f"Run it again as it was, or: {_START_AGAIN}",
            )
        )
    return finished
