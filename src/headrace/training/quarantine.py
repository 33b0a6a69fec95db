"""Training shards that a run goes on without: agreed by all ranks, and kept for the whole run.

The rule: a shard that any rank finds damaged while the data is encoded is left out on all ranks.
What is left out is fixed when the run starts and stands in ``quarantine.json`` of its folder; a
start that finds another damaged shard later is refused, since the batches in progress were
planned with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from headrace.config import RunConfig
from headrace.encoding.sidecar import EncodedSource
from headrace.errors import ConfigError, Problem
from headrace.stream.state import MAX_QUARANTINED
from headrace.training.data import RunData
from headrace.training.distributed import World, failing_together, gather_json
from headrace.training.results import write_json

FILE_NAME = "quarantine.json"

LeftOut = Mapping[str, list[str]]
"""File names of shards by language."""


def read_quarantine(folder: Path) -> LeftOut | None:
    """What the run in a folder was started without; None for a run that is not started yet.

    Raises:
        ConfigError: if the file is damaged.
    """
    path = folder / FILE_NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    sound = isinstance(found, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in found.values()
    )
    if not sound:
        raise _damaged(path, repr(found)[:80])
    return dict(found)


def agree_on_quarantine(
    config: RunConfig, data: RunData, known: LeftOut | None, world: World
) -> RunData:
    """The data without the shards that any rank left out; recorded by the first start of a run.

    Args:
        config: of the run; with ``data.bad_shards`` ``"refuse"`` the data comes back as it is.
        data: encoded, perhaps without some shards.
        known: what :func:`read_quarantine` gave before.
        world: the ranks.

    Raises:
        ConfigError: on every rank, if there are too many, or others than when the run started.
    """
    if config.headrace.data.bad_shards == "refuse":
        return data
    shares: list[LeftOut] = gather_json(left_out_of(data.train), world)
    union = {
        language: sorted({name for share in shares for name in share[language]})
        for language in data.train
    }
    with failing_together(world):
        _check(union, known, config.output / FILE_NAME)
        train, whole = (
            {
                language: source.leaving_out(
                    number
                    for number, shard in enumerate(source.shards)
                    if shard.name in union[language]
                )
                for language, source in sources.items()
            }
            for sources in (data.train, data.whole)
        )
    with failing_together(world):
        if world.is_main and known is None:
            write_json(config.output / FILE_NAME, union)
    return replace(data, train=train, whole=whole)


def left_out_of(sources: Mapping[str, EncodedSource]) -> LeftOut:
    """The shards that sources were encoded without."""
    return {
        language: [source.shards[number].name for number in sorted(source.left_out)]
        for language, source in sources.items()
    }


def _check(union: LeftOut, known: LeftOut | None, path: Path) -> None:
    names = [f"{language}/{name}" for language, shards in union.items() for name in shards]
    problems = []
    if len(names) > MAX_QUARANTINED:
        problems.append(
            Problem(
                f"more than {MAX_QUARANTINED} shards are damaged",
                "headrace.data.train",
                f"{len(names)}: {', '.join(names[:3])}, ...",
                "Check the sources with: headrace verify URL",
            )
        )
    if known is not None:
        problems += [
            Problem(
                "a shard is damaged that the run was started with",
                f"{language}/{name}",
                str(path),
                "Repair the shard, or start the run anew in another run folder",
            )
            for language, shards in union.items()
            for name in shards
            if name not in known.get(language, [])
        ]
    if problems:
        raise ConfigError(problems)


def _damaged(path: Path, value: str) -> ConfigError:
    return ConfigError(
        Problem(
            "the list of left-out shards is damaged",
            str(path),
            value,
            "Start the run anew in another run folder",
        )
    )
