"""Whether a config may go on in a run folder: what has begun may not change, what comes may."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headrace.config import RunConfig
from headrace.config.schema import HeadraceConfig
from headrace.errors import ConfigError, Problem

logger = logging.getLogger(__name__)

_SHOWN = 120
"""Characters of a value in a message."""
Change = tuple[str, Any, Any]
"""JSON path, value before, value now; None where a key is not there."""

_MAY_CHANGE = ("checkpoint", "logging", "anomalies", "watch")
"""Sections that a run may change between two starts: they do not say what is learned from what."""
_NOT_LEARNED = frozenset(
    [
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "steps_per_print",
        "wall_clock_breakdown",
        "memory_breakdown",
        "dump_state",
        "timers",
        "log_level",
        "flops_profiler",
        "comms_logger",
        "tensorboard",
        "wandb",
        "csv_monitor",
        "comet",
    ]
)
"""Keys of DeepSpeed that say how a batch is divided, for which another number of ranks may need
other values, or what is printed and measured."""
_CHECKED_LATER = ("phases", "max_epochs")
"""Of the mixture of a stage that is under way: its checkpoint knows which of them have begun."""


def check_same_run(config: RunConfig) -> list[Change]:
    """Refuse to go on in a run folder that another config made.

    The batch may be divided otherwise, over ranks, micro-batches and accumulation, and so may what
    ZeRO divides: the ZeRO stage is compared with that of the checkpoint when it is loaded.

    Stages that have not begun may be changed, added or removed.  Of a stage that has begun only
    the phases and the epoch limits may be edited: the state in its checkpoint refuses those that
    have had a part in its order (:meth:`headrace.stream.state.StreamState.check`).

    Returns:
        What changed since the last start and may do so; empty at the first one.

    Raises:
        ConfigError: with each key that may not have changed, and its values before and now.
    """
    path = config.output / "config.json"
    if not path.exists():
        return []
    try:
        before = _with_defaults(json.loads(path.read_text(encoding="utf-8")))
        stages_before = {stage["name"]: stage for stage in before["headrace"]["stages"]}
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
    for side in (before, now):
        side["zero_optimization"] = side.get("zero_optimization") or {}
    changed = _differences(before, now, "")
    refused = [
        *(change for change in changed if not _may_change(change[0])),
        *_stage_differences(config.output, stages_before, now["headrace"]["stages"]),
    ]
    if refused:
        raise ConfigError(
            [
                Problem(
                    f"was {_shown(old)} when the run in {config.output} was started, and is "
                    f"{_shown(new)} now",
                    key,
                    remedy="Set it back, choose another headrace.output, or remove the run folder",
                )
                for key, old, new in refused
            ]
        )
    # a run folder may be moved, or named in another way
    return [change for change in changed if change[0] not in ("headrace.name", "headrace.output")]


def report_changes(config: RunConfig) -> None:
    """Log what changed since the last start of a run, once it is known that it may."""
    changes = check_same_run(config)
    if changes:
        lines = [f"  {key}: {_shown(old)} -> {_shown(new)}" for key, old, new in changes]
        logger.info("changed since the last start:\n%s", "\n".join(lines))


def _with_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """A saved config with the keys that came with a later version, as they are by default."""
    try:
        section = HeadraceConfig.model_validate_json(json.dumps(content["headrace"]))
    except ValidationError:
        return content  # a key is gone: the differences say which
    return {**content, "headrace": json.loads(section.model_dump_json(by_alias=True))}


def _may_change(key: str) -> bool:
    """Whether a key may differ; stages are compared on their own."""
    first, _, rest = key.partition(".")
    if first == "headrace":
        return rest.partition(".")[0] in (*_MAY_CHANGE, "name", "output", "stages")
    return first in _NOT_LEARNED or key == "zero_optimization.stage"


def _shown(value: Any) -> str:
    """A value as JSON, shortened."""
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _stage_differences(
    output: Path, before: Mapping[str, Any], now: Sequence[Mapping[str, Any]]
) -> list[Change]:
    """What differs in stages that have begun."""
    places = {stage["name"]: number for number, stage in enumerate(now)}
    different: list[Change] = []
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


def _differences(before: Any, now: Any, path: str) -> list[Change]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for key in sorted({*before, *now})
            for difference in _differences(
                before.get(key), now.get(key), f"{path}.{key}" if path else key
            )
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            difference
            for number, (old, new) in enumerate(zip(before, now, strict=True))
            for difference in _differences(old, new, f"{path}.{number}")
        ]
    return [] if before == now else [(path, before, now)]
