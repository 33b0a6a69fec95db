"""The config reference, made from the schema: ``python -m headrace.config.reference FILE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from headrace.config.schema import HeadraceConfig

_PREFACE = """# Config reference

This page is generated from the schema (`make docs`); a test keeps it current.

A run config is one Hjson file, which is JSON with comments allowed. Everything outside
`"headrace"` belongs to DeepSpeed and is described in DeepSpeed's own documentation. Headrace
rejects top-level keys that DeepSpeed does not know, because DeepSpeed ignores them silently.
`optimizer` and `train_batch_size` are required; `scheduler` is refused, since `headrace.schedule`
takes its place.

Any key can be overridden on the command line: `--set headrace.stages.0.epochs=2`.
"""


def reference() -> str:
    """Return the config reference as Markdown."""
    parts = [_PREFACE]
    sections = _sections("headrace", HeadraceConfig, {})
    paths = [path for path, _ in sections]
    for path, model in sections:
        title = f"`{path}`"
        if paths.count(path) > 1:
            title += f" of type {_type_name(model.model_fields['type'].annotation)}"
        parts.append(_section(title, model))
    return "\n".join(parts)


def _sections(
    path: str, model: type[BaseModel], seen: dict[type[BaseModel], str]
) -> list[tuple[str, type[BaseModel]]]:
    if model in seen:
        return []
    seen[model] = path
    found = [(path, model)]
    for name, field in model.model_fields.items():
        for inner, is_list in _models(field.annotation):
            found += _sections(f"{path}.{name}{'[]' if is_list else ''}", inner, seen)
    return found


def _models(annotation: Any, is_list: bool = False) -> list[tuple[type[BaseModel], bool]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, is_list)]
    return [
        found
        for argument in get_args(annotation)
        for found in _models(argument, is_list or get_origin(annotation) is list)
    ]


def _section(title: str, model: type[BaseModel]) -> str:
    lines = [f"## {title}", "", str(model.__doc__).strip(), ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = " ".join(str(field.description).split()).replace("|", "\\|")
        lines.append(
            f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {meaning} |"
        )
    return "\n".join(lines) + "\n"


def _type(field: FieldInfo) -> str:
    text = _type_name(field.annotation)
    bounds = [
        f"{symbol} {getattr(item, attribute)}"
        for item in field.metadata
        for attribute, symbol in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if getattr(item, attribute, None) is not None
    ]
    return text + (f", {', '.join(bounds)}" if bounds else "")


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is None:
        plain = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}
        name = getattr(annotation, "__name__", str(annotation))
        return "null" if name == "NoneType" else plain.get(name, name)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return "object"
    if hasattr(annotation, "__metadata__"):
        return _type_name(arguments[0])
    if all(isinstance(argument, str) for argument in arguments):
        return " or ".join(f'`"{argument}"`' for argument in arguments)
    names = dict.fromkeys(_type_name(argument) for argument in arguments)
    return " or ".join(name for name in names if name != "null")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined:
        value = field.default_factory() if field.default_factory else None  # type: ignore[call-arg]
    if isinstance(value, BaseModel):
        return "see below"
    return "none" if value is None else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
