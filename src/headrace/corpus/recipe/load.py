"""Reading a recipe: everything that is wrong with it at once, before a document is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headrace.config.messages import did_you_mean
from headrace.config.object_file import repeat_problems, section_problems
from headrace.config.yaml_file import read_yaml
from headrace.corpus.language import language_problems
from headrace.corpus.licences.step import source_problems as licence_problems
from headrace.corpus.media import formats
from headrace.corpus.privacy.key import Key, load_key
from headrace.corpus.privacy.settings import PrivacySettings
from headrace.corpus.recipe.files import InputFile, expanded, list_files, name_problems
from headrace.corpus.recipe.settings import FROM_FILE_NAME, Recipe, Source
from headrace.errors import ConfigError, Problem, UserError
from headrace.shards import storage

_REMEDY = "Begin with a recipe of the folder recipes"


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe that was checked, and the files that it names."""

    recipe: Recipe
    """Its environment variables are replaced where they lead to the key and the packs."""
    files: tuple[InputFile, ...]
    """By source in the recipe's order, then by URL."""
    key_fingerprint: str | None = None
    """Names the secret key without saying what it is."""


def load_recipe(path: Path, output: Path) -> LoadedRecipe:
    """Read and check a recipe, and look its files up.

    Args:
        path: YAML file.
        output: folder of the corpus; the secret key and the inputs must not lie in it.

    Raises:
        ConfigError: with everything that is wrong, each with its JSON path.
    """
    data = read_yaml(path, "recipe", _REMEDY)
    problems: list[Problem] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate_json(json.dumps(data))
    except ValidationError as error:
        problems += section_problems(error, Recipe)
    ids = [source.get("id") for source in _list(data.get("sources")) if isinstance(source, dict)]
    named = [name for name in ids if isinstance(name, str)]
    problems += repeat_problems(named, "sources", "two sources have the same id")
    files: list[InputFile] = []
    for number, item in enumerate(_list(data.get("sources"))):
        files += _checked_source(item, number, output, problems)
    key = None
    if recipe is not None:
        privacy = recipe.privacy
        if privacy is not None:
            privacy, key = _checked_privacy(privacy, output, problems)
        recipe = recipe.model_copy(update={"privacy": privacy})
    if problems or recipe is None:
        raise ConfigError(problems)
    return LoadedRecipe(recipe, tuple(files), key.fingerprint if key is not None else None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _checked_source(
    item: Any, number: int, output: Path, problems: list[Problem]
) -> list[InputFile]:
    """The files of a source as it stands in the recipe, also of one that is not well formed."""
    where = f"sources.{number}"
    try:
        source = Source.model_validate_json(json.dumps(item))
    except ValidationError:  # which is told of the recipe as a whole
        patterns = _list(item.get("files")) if isinstance(item, dict) else []
        if patterns and all(isinstance(pattern, str) for pattern in patterns):
            list_files(patterns, [], number, where, problems)
        return []
    if source.language not in (None, FROM_FILE_NAME):
        problems += language_problems(str(source.language), f"{where}.language")
    if source.format not in ("auto", *formats()):
        remedy = did_you_mean(source.format, ["auto", *formats()])
        what = "no reader of this format"
        problems.append(Problem(what, f"{where}.format", source.format, remedy))
    problems += licence_problems(source.licence, f"{where}.licence")
    found = list_files(source.files, source.except_files, number, where, problems)
    if source.language == FROM_FILE_NAME:
        problems += name_problems(found, where)
    problems += _inside_problems(found, output, where)
    return found


def _inside_problems(files: list[InputFile], output: Path, where: str) -> list[Problem]:
    """A build must not read what it writes."""
    inside = [
        file.url
        for file in files
        if storage.is_local(file.url)
        and storage.local_path(file.url).resolve().is_relative_to(output.resolve())
    ]
    if not inside:
        return []
    remedy = "Give another --output, or keep the inputs elsewhere"
    what = "files of the source lie in the folder that the corpus is written to"
    return [Problem(what, f"{where}.files", inside[0], remedy)]


def _checked_privacy(
    privacy: PrivacySettings, output: Path, problems: list[Problem]
) -> tuple[PrivacySettings, Key | None]:
    """The section with its paths as they are meant, and the key."""
    update: dict[str, str] = {}
    for name in ("key", "packs"):
        value = getattr(privacy, name)
        if value is not None:
            update[name] = str(Path(expanded(value, f"privacy.{name}", problems)).expanduser())
    privacy = privacy.model_copy(update=update)
    key = None
    try:
        if privacy.key:
            key = load_key(privacy.key, data=output)
    except UserError as error:
        problems += [
            Problem(one.what, "privacy.key", one.value, one.remedy) for one in error.problems
        ]
    else:
        needing = [mode for mode in (privacy.mode, *privacy.modes.values()) if mode in _KEYED]
        if needing and key is None:
            remedy = "Make a key with: headrace privacy --make-key FILE, and name it here"
            problems.append(Problem("the mode needs a key", "privacy.key", needing[0], remedy))
    if privacy.packs is not None and not Path(privacy.packs).is_dir():
        problems.append(Problem("no such folder", "privacy.packs", privacy.packs, "Check the path"))
    return privacy, key


_KEYED = ("hash", "pseudonym")
