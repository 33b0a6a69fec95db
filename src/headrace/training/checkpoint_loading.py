"""A complete checkpoint loaded into an engine, also one of other ranks or another ZeRO stage."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.errors import HeadraceError, Problem, UserError
from headrace.training.checkpoint_marker import read_marker
from headrace.training.distributed import World, failing_together

logger = logging.getLogger(__name__)

STATE = "state"
"""Folder inside a checkpoint that DeepSpeed's files are in."""


def layout_of(engine: Any, world: World) -> dict[str, Any]:
    """What a checkpoint can be loaded into: it is cut up by ranks, ZeRO stage and precision."""
    precision = "fp32"
    if engine.fp16_enabled():
        precision = "fp16"
    elif engine.bfloat16_enabled():
        precision = "bf16"
    return {
        "world_size": world.size,
        "zero_stage": engine.zero_optimization_stage(),
        "precision": precision,
    }


def load_checkpoint(engine: Any, path: Path, world: World) -> dict[str, Any]:
    """Load a checkpoint into the engine and return the state that was saved with it.

    The number of ranks may be another one than that of the checkpoint, and so may the ZeRO stage
    if both are 1, 2 or 3.

    Raises:
        UserError: if it was written in another precision, or if only one of the checkpoint and
            this run is without ZeRO.
    """
    written = read_marker(path).layout
    here = layout_of(engine, world)
    different = [key for key, value in here.items() if written.get(key) != value]
    divided = written.get("zero_stage", 0) > 0 and here["zero_stage"] > 0
    may_differ = ("world_size", "zero_stage") if divided else ("world_size",)
    with failing_together(world):
        problems = [
            Problem(
                f"the checkpoint was written with {key} {written.get(key)}, "
                f"this run has {here[key]}",
                str(path),
                remedy=f"Start with {key} {written.get(key)}, or use another headrace.output",
            )
            for key in different
            if key not in may_differ
        ]
        if problems:
            raise UserError(problems)
    if different and divided:
        client_state = _load_resharded(engine, path, world, written)
    else:  # without ZeRO the checkpoint holds all there is, for any number of ranks
        loaded, client_state = engine.load_checkpoint(str(path), tag=STATE)
        if loaded is None:
            raise HeadraceError(f"DeepSpeed could not load the checkpoint {path}")
    if different and world.is_main:
        was, now = (
            ", ".join(f"{key} {layout[key]}" for key in different) for layout in (written, here)
        )
        logger.info(
            "checkpoint %s was written with %s and goes on with %s: samples and their order stay "
            "the same, dropout is drawn by rank",
            path,
            was,
            now,
        )
    state: dict[str, Any] = json.loads(client_state["headrace"])
    return state


def _load_resharded(
    engine: Any, path: Path, world: World, layout: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Load what was divided over other ranks, or in another way."""
    from headrace.training.resharding import load_resharded

    return load_resharded(
        engine, path / STATE, world, ranks=layout["world_size"], stage=layout["zero_stage"]
    )
