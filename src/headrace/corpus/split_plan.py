"""``parts.parquet``: which sample of a source goes where, written before the parts are."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import xxhash
from numpy.typing import NDArray

from headrace.errors import CorpusError, Problem, UserError
from headrace.shards import storage

FILE = "parts.parquet"
_UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, pyarrow.ArrowException,
)  # fmt: skip
"""What a damaged Parquet file is met with."""
OTHER_SPLIT = "Choose another --output, or give --overwrite"


@dataclass(frozen=True)
class Plan:
    """Which sample goes where."""

    numbers: NDArray[np.int64]
    """``[rows]``: sample of the source."""
    keys: list[str]
    """``[rows]``: their keys."""
    parts: NDArray[np.int32]
    """``[rows]``: number of the part."""
    facts: Mapping[str, Any]
    """See :class:`headrace.corpus.split_rules.Division`."""
    tables: Mapping[str, Any]

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Samples of each part."""
        counts = np.bincount(self.parts, minlength=len(names)).tolist()
        return dict(zip(names, counts, strict=True))


def write_plan(output_url: str, plan: Plan, fingerprint: str, settings: Mapping[str, Any]) -> None:
    """Write the plan with the settings that it comes from."""
    parts = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array(plan.parts), pyarrow.array(settings["names"], pyarrow.string())
    )
    about = {
        "fingerprint": fingerprint,
        "settings": json.dumps(settings),
        "facts": json.dumps(plan.facts),
        "tables": json.dumps(plan.tables),
    }
    table = pyarrow.table(
        {"row": plan.numbers, "id": pyarrow.array(plan.keys, pyarrow.string()), "part": parts},
        metadata={**about, "digest": _digest(plan, about)},
    )
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    storage.make_folder(output_url)
    storage.write_atomically(storage.join(output_url, FILE), buffer.getvalue())


def _parquet(output_url: str) -> pyarrow.Table:
    data = storage.read_bytes(storage.join(output_url, FILE))
    return pyarrow.parquet.read_table(io.BytesIO(data))


def _digest(plan: Plan, about: Mapping[str, str]) -> str:
    """xxh3-128 (hex) over all that the file says: Parquet has no checksum of its metadata."""
    digest = xxhash.xxh3_128(np.ascontiguousarray(plan.numbers, np.int64).data)
    digest.update(np.ascontiguousarray(plan.parts, np.int32).data)
    digest.update(json.dumps([plan.keys, sorted(about.items())]).encode())
    return digest.hexdigest()


def read_plan(output_url: str, fingerprint: str, settings: Mapping[str, Any]) -> Plan | None:
    """The plan of an interrupted split with these settings; None if there is no plan.

    Raises:
        CorpusError: if it is damaged, or that of another split.
    """
    url = storage.join(output_url, FILE)
    if not storage.exists(url):
        return None
    try:
        table = _parquet(output_url)
        about = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        digest = about.pop("digest")
        old = json.loads(about["settings"])
        same = about["fingerprint"] == fingerprint
        facts, tables = json.loads(about["facts"]), json.loads(about["tables"])
        parts = table["part"].combine_chunks()
        numbers = {name: number for number, name in enumerate(old["names"])}
        plan = Plan(
            table["row"].to_numpy(),
            table["id"].to_pylist(),
            np.array([numbers[name] for name in parts.to_pylist()], np.int32),
            facts,
            tables,
        )
        if digest != _digest(plan, about):
            raise ValueError("it is not what was written")
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        what = f"the plan of the split cannot be read: {reason}"
        raise CorpusError(Problem(what, url, None, "Give --overwrite")) from error
    if not same:
        differing = [
            f"{key} is {json.dumps(old.get(key))}, not {json.dumps(settings.get(key))}"
            for key in dict.fromkeys([*old, *settings])
            if old.get(key) != settings.get(key)
        ]
        what = "the folder holds another split"
        raise CorpusError(Problem(what, "output", "; ".join(differing)[:400], OTHER_SPLIT))
    return plan


def names_in_plan(output_url: str) -> list[str]:
    """The names of the parts of whatever plan is in the folder; none if there is no whole one."""
    try:
        names = json.loads(_parquet(output_url).schema.metadata[b"settings"])["names"]
    except (UserError, *_UNREADABLE):
        return []
    return [str(name) for name in names]
