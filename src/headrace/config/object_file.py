"""Files that hold one object of settings, and everything that is wrong with it at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import hjson
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from headrace.config.messages import did_you_mean
from headrace.errors import ConfigError, Problem

Loaded = TypeVar("Loaded", bound=BaseModel)


def read_object(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read an Hjson (or JSON) file that holds an object with keys.

    Args:
        path: the file.
        what: what it is called in errors: ``config``.
        remedy: what to do about a file that holds something else.

    Raises:
        ConfigError: if it cannot be read, is not Hjson, has a key twice, or holds something else.
    """

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
            Problem(f"the {what} cannot be read: {reason}", str(path), remedy="Check the path")
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
                f"a {what} is an object with keys",
                str(path),
                type(data).__name__ if data else "empty",
                remedy,
            )
        )
    return cast(dict[str, Any], data)


def load_with_base(
    path: Path,
    section: type[Loaded],
    what: str,
    remedy: str,
    check: Callable[[Loaded], list[Problem]],
) -> tuple[Loaded, dict[str, Any]]:
    """Read and check a file whose key ``base`` is a run config, or the path of one.

    Args:
        path: the file.
        section: what the file holds.
        what: see :func:`read_object`.
        remedy: see :func:`read_object`.
        check: finds what is wrong between the keys.

    Returns:
        The section, and the base config as plain data.

    Raises:
        ConfigError: with everything that is wrong with the file, each with its JSON path.
    """
    data = read_object(path, what, remedy)
    try:
        loaded = section.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(section_problems(error, section)) from None
    problems = check(loaded)
    base = data["base"]
    if isinstance(base, str):
        try:
            base = read_object(Path(base), "config", "Start from one of ds_configs/")
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return loaded, base


def repeat_problems(values: Sequence[Any], where: str, what: str) -> list[Problem]:
    """A problem for each value that stands more than once in a list."""
    return [
        Problem(what, where, str(value), "Keep one")
        for value in dict.fromkeys(values)
        if list(values).count(value) > 1
    ]


def section_problems(
    error: ValidationError, root: type[BaseModel], prefix: str = ""
) -> list[Problem]:
    """What pydantic refused, each with its JSON path and what to do about it.

    Args:
        error: of validating data as ``root``.
        root: the outermost section.
        prefix: where that section is in its file.
    """
    problems = []
    for item in error.errors(include_url=False):
        location = _without_tags(item["loc"], root)
        where = ".".join([*filter(None, [prefix]), *(str(part) for part in location)])
        value: str | None = None
        remedy: str | None = None
        if item["type"] == "extra_forbidden":
            what = "unknown key"
            allowed = _fields_at(item["loc"][:-1], root)
            remedy = did_you_mean(str(location[-1]), allowed)
        elif item["type"] == "union_tag_invalid":
            where += ".type"
            what = "unknown type"
            value = json.dumps(item["ctx"]["tag"], ensure_ascii=False)[:80]
            allowed = [tag.strip(" '") for tag in str(item["ctx"]["expected_tags"]).split(",")]
            remedy = did_you_mean(str(item["ctx"]["tag"]), allowed)
        elif item["type"] == "union_tag_not_found":
            where += ".type"
            what = "a required key is missing"
            remedy = f"Add it: {' or '.join(_tags_at(location, root))}"
        elif item["type"] == "missing":
            what = "a required key is missing"
            remedy = "Add it"
        else:
            what = str(item["msg"])
            value = json.dumps(item["input"], ensure_ascii=False)[:80]
        problems.append(Problem(what, where, value, remedy))
    return problems


def _fields_at(location: Sequence[int | str], root: type[BaseModel]) -> list[str]:
    """Return the keys that the schema allows at a place, as pydantic names it."""
    models = _walk(location, root)[0]
    return list(
        dict.fromkeys(
            field.alias or key for model in models for key, field in model.model_fields.items()
        )
    )


def _tags_at(location: Sequence[int | str], root: type[BaseModel]) -> list[str]:
    """Return the values that `type` may have at a place with sections of several types."""
    return [tag for model in _walk(location, root)[0] if (tag := _tag(model))]


def _without_tags(location: Sequence[int | str], root: type[BaseModel]) -> list[int | str]:
    """Return a place as a user writes it: pydantic puts the type of a section behind its name."""
    return _walk(location, root)[1]


def _walk(
    location: Sequence[int | str], root: type[BaseModel]
) -> tuple[list[type[BaseModel]], list[int | str]]:
    """Go to a place, as pydantic names it.

    Returns:
        The sections that may be there, and the place without the types of sections.
    """
    models: list[type[BaseModel]] = [root]
    place: list[int | str] = []
    for part in location:
        tagged = [model for model in models if len(models) > 1 and part == _tag(model)]
        if tagged:
            models = tagged
            continue
        place.append(part)
        fields = [
            model.model_fields[part]
            for model in models
            if isinstance(part, str) and part in model.model_fields
        ]
        inner = [
            found
            for field in fields
            for found in (*_models_in(field.annotation), *_models_of_validators(field))
        ]
        models = inner or models  # a name that the user chose stands between the two
    return models, place


def _models_of_validators(field: FieldInfo) -> list[type[BaseModel]]:
    """Sections that a validator of a field takes besides those of its annotation."""
    return [
        model
        for item in field.metadata
        for model in getattr(getattr(item, "func", None), "sections", ())
    ]


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
