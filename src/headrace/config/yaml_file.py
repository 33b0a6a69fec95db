"""YAML files that hold one object of settings, read as JSON would be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError, MissingExtraError, Problem


def read_yaml(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """Read a YAML file that holds an object with keys.

    Only `true`, `false`, `null` and numbers are anything but text: `no` is a language here, and
    2024-05-01 a date in text.  Nothing in the file is executed.

    Args:
        path: the file.
        what: what it is called in errors: ``recipe``.
        remedy: what to do about a file that holds something else.

    Raises:
        ConfigError: if it cannot be read, is not YAML, has a key twice, or holds something else.
        MissingExtraError: without the packages of the extra ``corpus``.
    """
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("pyyaml", "corpus", f"reading a {what}") from None

    class Loader(yaml.SafeLoader):
        """SafeLoader with the types of JSON, and without repeated keys."""

    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in found if tag.rpartition(":")[2] in ("null", "int")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    core = "tag:yaml.org,2002:"
    Loader.add_implicit_resolver(f"{core}bool", _form("true|false"), list("tf"))
    number = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
    Loader.add_implicit_resolver(f"{core}float", _form(number), list("-+.0123456789"))

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        for (key, _), value in zip(node.value, keys, strict=True):
            where = f"{path}:{key.start_mark.line + 1}"
            if not isinstance(value, str):
                raise ConfigError(Problem("a key is not text", where, repr(value)[:80], "Quote it"))
            if keys.count(value) > 1:
                raise ConfigError(Problem("a key stands twice in one object", where, value))
        return {
            key: loader.construct_object(value, deep=True)
            for key, (_, value) in zip(keys, node.value, strict=True)
        }

    Loader.add_constructor(f"{core}map", mapping)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            Problem(f"the {what} cannot be read: {reason}", str(path), remedy="Check the path")
        ) from None
    try:
        data = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or "a character that YAML does not allow"
        raise ConfigError(Problem(f"not valid YAML: {reason}", where)) from None
    except RecursionError:
        raise ConfigError(Problem("not valid YAML: nested too deeply", str(path))) from None
    if not isinstance(data, dict) or not data:
        kind = type(data).__name__ if data else "empty"
        raise ConfigError(Problem(f"a {what} is an object with keys", str(path), kind, remedy))
    return data


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:{pattern})$")
