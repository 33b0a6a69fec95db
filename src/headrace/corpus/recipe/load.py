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
from headrace.corpus.duplicates.semantic import encoder_of
from headrace.corpus.duplicates.settings import DuplicatesSettings
from headrace.corpus.language import language_problems
from headrace.corpus.languages.fasttext_model import languages_of
from headrace.corpus.languages.settings import LanguageSettings
from headrace.corpus.licences.step import source_problems as licence_problems
from headrace.corpus.licences.step import terms_problems
from headrace.corpus.media import formats
from headrace.corpus.privacy.key import Key, load_key
from headrace.corpus.privacy.settings import PrivacySettings
from headrace.corpus.recipe.files import InputFile, expanded, list_files, name_problems
from headrace.corpus.recipe.settings import FROM_FILE_NAME, Recipe, Source
from headrace.errors import ConfigError, CorpusError, MissingExtraError, Problem, UserError
from headrace.file_hash import hash_of
from headrace.shards import storage

_REMEDY = "Begin with a recipe of the folder recipes"


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe that was checked, and the files that it names."""

    recipe: Recipe
    """Its environment variables are replaced where they lead to the key, packs and models."""
    files: tuple[InputFile, ...]
    """By source in the recipe's order, then by URL."""
    key_fingerprint: str | None = None
    """Names the secret key without saying what it is."""
    encoder_fingerprint: str | None = None
    """Of the encoder that finds semantic duplicates."""
    language_model_hash: str | None = None
    """Of the file that tells languages, if the recipe names one."""


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
    key = encoder = language_model = None
    if recipe is not None:
        privacy = recipe.privacy
        if privacy is not None:
            privacy, key = _checked_privacy(privacy, output, problems)
        duplicates = recipe.duplicates
        if duplicates is not None and duplicates.semantic is not None:
            duplicates, encoder = _checked_semantic(duplicates, problems)
        languages, language_model = _checked_languages(recipe.languages, problems)
        recipe = recipe.model_copy(
            update={"languages": languages, "privacy": privacy, "duplicates": duplicates}
        )
        problems += _original_problems(recipe)
        for number, source in enumerate(recipe.sources):
            where = f"sources.{number}.forbids"
            problems += terms_problems(source.forbids, recipe.licences.uses, where)
    if problems or recipe is None:
        raise ConfigError(problems)
    fingerprint = key.fingerprint if key is not None else None
    return LoadedRecipe(recipe, tuple(files), fingerprint, encoder, language_model)


def _original_problems(recipe: Recipe) -> list[Problem]:
    """Original bytes must not come beside texts without private information by accident."""
    problems = []
    promised = recipe.privacy is not None and not recipe.privacy.raw_originals
    for number, source in enumerate(recipe.sources):
        if not source.keep_original:
            continue
        where = f"sources.{number}.keep_original"
        if promised:
            what = "the originals hold the private information that is taken out of the texts"
            remedy = "If that is meant, set privacy.raw_originals: true"
            problems.append(Problem(what, where, "true", remedy))
        if source.format == "parquet":
            what = "a row of a Parquet file has no bytes of its own"
            problems.append(Problem(what, where, "true", "Leave it out; the file is the original"))
    return problems


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


def _checked_languages(
    languages: LanguageSettings, problems: list[Problem]
) -> tuple[LanguageSettings, str | None]:
    """The section with the path of its model as it is meant, and the hash of the model."""
    if languages.model is None:
        return languages, None
    path = Path(expanded(languages.model, "languages.model", problems)).expanduser()
    languages = languages.model_copy(update={"model": str(path)})
    try:
        languages_of(path)
    except CorpusError as error:
        problems += error.problems
        return languages, None
    return languages, hash_of(path)


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


def _checked_semantic(
    duplicates: DuplicatesSettings, problems: list[Problem]
) -> tuple[DuplicatesSettings, str | None]:
    """The section with the path of the encoder as it is meant, and the encoder's fingerprint."""
    semantic, where = duplicates.semantic, "duplicates.semantic"
    assert semantic is not None
    folder = Path(expanded(semantic.model, f"{where}.model", problems)).expanduser()
    semantic = semantic.model_copy(update={"model": str(folder)})
    duplicates = duplicates.model_copy(update={"semantic": semantic})
    if not folder.is_dir():
        remedy = "Name a folder with an encoder in Hugging Face format"
        problems.append(Problem("no such folder", f"{where}.model", str(folder), remedy))
        return duplicates, None
    try:
        return duplicates, encoder_of(semantic).fingerprint
    except MissingExtraError:
        raise
    except UserError as error:
        problems += [Problem(one.what, where, one.value, one.remedy) for one in error.problems]
    return duplicates, None


_KEYED = ("hash", "pseudonym")
