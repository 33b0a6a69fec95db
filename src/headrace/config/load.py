"""Reading a run config: Hjson, ``--set`` overrides, and all of its errors at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import hjson
from pydantic import BaseModel, ValidationError

from headrace.config.checks import check_deepspeed_section, check_stages
from headrace.config.messages import did_you_mean
from headrace.config.penalty_checks import check_penalties
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
    data = _read_hjson(path)
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
            problems += _schema_problems(error, section)
    if headrace is not None:
        problems += check_stages(headrace)
        problems += check_penalties(headrace, data)
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
        )
        for problem in _local_folder_problems(where, folder)
    ]
    if problems:
        raise ConfigError(problems)
    name = headrace.name or output.name
    return RunConfig(deepspeed=data, headrace=headrace, name=name, output=output)


def _read_hjson(path: Path) -> dict[str, Any]:
    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ConfigError(
                Problem("a key stands twice in one object", str(path), ", ".join(twice))
            )
        return dict(pairs)

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            Problem(f"the config cannot be read: {reason}", str(path), remedy="Check the path")
        ) from None
    try:
        data = hjson.loads(text, object_pairs_hook=unique_keys)
    except hjson.HjsonDecodeError as error:
        raise ConfigError(
            Problem(f"not valid Hjson: {error.msg}", f"{path}:{error.lineno}:{error.colno}")
        ) from None
    if not isinstance(data, dict) or not data:
        raise ConfigError(
            Problem(
                "a run config is an object with keys",
                str(path),
                type(data).__name__ if data else "empty",
                "Start from one of ds_configs/",
            )
        )
    return cast(dict[str, Any], data)


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


def _schema_problems(error: ValidationError, section: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for item in error.errors(include_url=False):
        location = _without_tags(item["loc"])
        where = ".".join([SECTION, *(str(part) for part in location)])
        value: str | None = None
        remedy: str | None = None
        if item["type"] == "extra_forbidden":
            what = "unknown key"
            allowed = _fields_at(item["loc"][:-1])
            remedy = did_you_mean(str(location[-1]), allowed)
        elif item["type"] == "union_tag_invalid":
            where += ".type"
            what = "unknown type"
            value = json.dumps(item["ctx"]["tag"], ensure_ascii=False)[:80]
            remedy = did_you_mean(str(item["ctx"]["tag"]), _tags_at(location))
        elif item["type"] == "union_tag_not_found":
            where += ".type"
            what = "a required key is missing"
            remedy = f"Add it: {' or '.join(_tags_at(location))}"
        elif item["type"] == "missing":
            what = "a required key is missing"
            remedy = "Add it"
        else:
            what = str(item["msg"])
            value = json.dumps(item["input"], ensure_ascii=False)[:80]
        problems.append(Problem(what, where, value, remedy))
    return problems


def _fields_at(location: Sequence[int | str]) -> list[str]:
    """Return the keys that the schema allows at a place, as pydantic names it."""
    models: list[type[BaseModel]] = [HeadraceConfig]
    for part in location:
        if isinstance(part, int):
            continue
        tagged = [model for model in models if part == _tag(model)]
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        inner = [found for field in fields for found in _models_in(field.annotation)]
        models = tagged or inner or models  # a name that the user chose stands between the two
    return list(
        dict.fromkeys(
            field.alias or key for model in models for key, field in model.model_fields.items()
        )
    )


def _tags_at(location: Sequence[int | str]) -> list[str]:
    """Return the values that `type` may have at a place with sections of several types."""
    field = HeadraceConfig.model_fields[str(location[-1])]
    return [tag for model in _models_in(field.annotation) if (tag := _tag(model))]


def _without_tags(location: Sequence[int | str]) -> list[int | str]:
    """Return a place as a user writes it: pydantic puts the type of a section behind its name."""
    return [
        part
        for number, part in enumerate(location)
        if not (number and part in _tags_of(location[number - 1]))
    ]


def _tags_of(name: int | str) -> list[str]:
    field = HeadraceConfig.model_fields.get(str(name))
    return _tags_at([name]) if field is not None and field.discriminator else []


def _tag(model: type[BaseModel]) -> str | None:
    """The value of a section's `type`, if it can have one value alone."""
    field = model.model_fields.get("type")
    values = get_args(field.annotation) if field is not None else ()
    return str(values[0]) if len(values) == 1 else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [
        found for argument in getattr(annotation, "__args__", ()) for found in _models_in(argument)
    ]
