"""Reading a run config: Hjson, ``--set`` overrides, and all of its errors at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hjson
from pydantic import ValidationError

from headrace.config.checkpoint_checks import check_checkpoints
from headrace.config.checks import check_deepspeed_section, check_stages
from headrace.config.object_file import read_object, section_problems
from headrace.config.penalty_checks import check_penalties, folders_of_penalties
from headrace.config.schema import HeadraceConfig
from headrace.counts import counted
from headrace.errors import ConfigError, Problem

SECTION = "headrace"
_LOOSE_NUMBER = re.compile(r"[+-]?([0-9]+\.|[0-9]*\.[0-9]+)([eE][+-]?[0-9]+)?")
"""Numbers that JSON does not know: ``1.``, ``.5``, ``1.e-6``."""


@dataclass(frozen=True)
class RunConfig:
    """A whole run config, checked."""

    deepspeed: Mapping[str, Any]
    """Everything outside ``"headrace"``, as it was written."""
    headrace: HeadraceConfig
    """Our own section, with every default filled in."""
    name: str
    """Name of the run in reports."""
    output: Path
    """The run folder."""

    def resolved(self) -> dict[str, Any]:
        """Return the config as plain data; loading it again gives the same run."""
        section = self.headrace.model_dump(mode="json", by_alias=True)
        section["output"] = str(self.output)
        return {**self.deepspeed, SECTION: section}

    @property
    def learning_rate(self) -> float:
        """Base learning rate of the optimizer."""
        return float(self.deepspeed["optimizer"]["params"]["lr"])

    @property
    def zero_stage(self) -> int:
        """ZeRO stage, 0 to 3."""
        return int(self.deepspeed.get("zero_optimization", {}).get("stage", 0))


def load_run_config(
    path: str | Path, overrides: Sequence[str] = (), *, thorough: bool = True
) -> RunConfig:
    """Read, override and check a run config.

    Args:
        path: Hjson (or JSON) file.
        overrides: ``dotted.path=value`` texts; a value that is not JSON is plain text.
        thorough: check what is inside DeepSpeed's sections too, for which it is imported.

    Raises:
        ConfigError: with every problem that was found, each with its JSON path.
    """
    path = Path(path)
    data = read_object(path, "config", "Start from one of ds_configs/")
    problems: list[Problem] = []
    for override in overrides:
        _apply_override(data, override, problems)
    section = data.pop(SECTION, None)
    problems += check_deepspeed_section(data, thorough=thorough)
    headrace: HeadraceConfig | None = None
    if not isinstance(section, dict):
        problems.append(
            Problem(
                what="the section is missing or not an object",
                where=SECTION,
                remedy=f'Add a section "{SECTION}" with task, model, data and stages',
            )
        )
    else:
        try:
            headrace = HeadraceConfig.model_validate_json(json.dumps(section))
        except ValidationError as error:
            problems += section_problems(error, HeadraceConfig, SECTION)
    if headrace is not None:
        problems += check_stages(headrace)
        problems += check_penalties(headrace, data)
        problems += check_checkpoints(headrace, data)
    if problems or headrace is None:
        raise ConfigError(problems)
    output = Path(headrace.output or f"runs/{path.stem}")
    shard_cache, selection = headrace.data.shard_cache, headrace.selection
    problems = [
        problem
        for where, folder in (
            ("headrace.output", headrace.output if headrace.output is not None else str(output)),
            ("headrace.data.cache_dir", headrace.data.cache_dir),
            *([("headrace.data.shard_cache.folder", shard_cache.folder)] if shard_cache else []),
            *([("headrace.selection.cache_dir", selection.cache_dir)] if selection else []),
            *folders_of_penalties(headrace),
        )
        for problem in _local_folder_problems(where, folder)
    ]
    if problems:
        raise ConfigError(problems)
    name = headrace.name or output.name
    return RunConfig(deepspeed=data, headrace=headrace, name=name, output=output)


def _local_folder_problems(where: str, text: str) -> list[Problem]:
    """Check that a text can be the path of a folder on this machine."""
    if not text or "://" in text:
        return [Problem("a local folder is needed", where, repr(text), "Give a path")]
    if Path(text).exists() and not Path(text).is_dir():
        return [Problem("a file is in the way", where, text, "Choose another folder")]
    return []


def _apply_override(data: dict[str, Any], override: str, problems: list[Problem]) -> None:
    """Set one value in place; a missing object on the way is made, a missing list item is not."""
    dotted, separator, text = override.partition("=")
    where = f"--set {override}"
    if not separator or not dotted:
        problems.append(
            Problem("an override has the form dotted.path=value", where, remedy="Add the '='")
        )
        return
    *parents, last = dotted.split(".")
    node: Any = data
    for part in parents:
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                problems.append(Problem(f"the list has {counted(len(node), 'item')}", where, part))
                return
            node = node[int(part)]
        elif isinstance(node, dict):
            if not isinstance(node.get(part), (dict, list)):
                node[part] = {}
            node = node[part]
    value = _override_value(text)
    if isinstance(node, dict):
        node[last] = value
    elif isinstance(node, list) and last.isdecimal() and int(last) < len(node):
        node[int(last)] = value
    else:
        problems.append(Problem("the path leads to no place in the config", where, last))


def _override_value(text: str) -> Any:
    """Read a value as JSON where it is JSON (numbers, lists, true, null), else as plain text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    if text[:1] in "[{":
        try:
            return hjson.loads(text, object_pairs_hook=dict)
        except hjson.HjsonDecodeError:
            return text
    return float(text) if _LOOSE_NUMBER.fullmatch(text) else text
