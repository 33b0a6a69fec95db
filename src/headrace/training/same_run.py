"""Whether a config may go on in a run folder: what has begun may not change, what comes may."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.config import RunConfig
from headrace.errors import ConfigError, Problem

_MAY_CHANGE = ("checkpoint", "logging", "watch")
"""Sections that a run may change between two starts: they do not touch what is learned."""
_LAYOUT = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
"""Keys of DeepSpeed that say how a batch is divided: another number of ranks may need others."""
_CHECKED_LATER = ("phases", "max_epochs")
"""Of the mixture of a stage that is under way: its checkpoint knows which of them have begun."""


def check_same_run(config: RunConfig) -> None:
    """Refuse to go on in a run folder that another config made.

    The batch may be divided otherwise, over ranks, micro-batches and accumulation, and so may what
    ZeRO divides: the ZeRO stage is compared with that of the checkpoint when it is loaded.

    Stages that have not begun may be changed, added or removed.  Of a stage that has begun only
    the phases and the epoch limits may be edited: the state in its checkpoint refuses those that
    have had a part in its order (:meth:`headrace.stream.state.StreamState.check`).

    Raises:
        ConfigError: naming the keys that differ.
    """
    path = config.output / "config.json"
    if not path.exists():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        stages_before = {stage["name"]: stage for stage in before["headrace"].pop("stages")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            Problem(
                "the folder holds something else than a run",
                "headrace.output",
                str(config.output),
                "Choose another folder",
            )
        ) from None
    now = json.loads(json.dumps(config.resolved()))
    stages_now = now["headrace"].pop("stages")
    for side in (before, now):
        # A run folder may be moved, or named in another way.
        for key in (*_MAY_CHANGE, "name", "output"):
            side["headrace"].pop(key, None)
        for key in _LAYOUT:
            side.pop(key, None)
        side["zero_optimization"] = {**(side.get("zero_optimization") or {}), "stage": None}
    different = [
        *_differences(before, now, ""),
        *_stage_differences(config.output, stages_before, stages_now),
    ]
    if different:
        raise ConfigError(
            [
                Problem(
                    f"the run in {config.output} was started with {old!r}",
                    key,
                    repr(new),
                    "Set it back, choose another headrace.output, or remove the run folder",
                )
                for key, old, new in different
            ]
        )


def _stage_differences(
    output: Path, before: Mapping[str, Any], now: Sequence[Mapping[str, Any]]
) -> list[tuple[str, Any, Any]]:
    """What differs in stages that have begun."""
    places = {stage["name"]: number for number, stage in enumerate(now)}
    different: list[tuple[str, Any, Any]] = []
    for name, old in before.items():
        folder = output / name
        # The lock of a branch makes its folder before its first step.
        if not folder.is_dir():
            continue
        if name not in places:
            different.append(("headrace.stages", name, [stage["name"] for stage in now]))
            continue
        complete = any(folder.glob("*/result.json"))
        fixed = _fixed(old, complete), _fixed(now[places[name]], complete)
        different += _differences(*fixed, f"headrace.stages.{places[name]}")
    return different


def _fixed(stage: Mapping[str, Any], complete: bool) -> dict[str, Any]:
    """What may not change in a stage that has begun."""
    free = () if complete else _CHECKED_LATER
    mixture = {key: value for key, value in stage["mixture"].items() if key not in free}
    return {**stage, "mixture": mixture}


def _differences(before: Any, now: Any, path: str) -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for key in sorted({*before, *now})
            for difference in _differences(
                before.get(key), now.get(key), f"{path}.{key}" if path else key
            )
        ]
    return [] if before == now else [(path, before, now)]
