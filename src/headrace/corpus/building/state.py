"""The folder of a build: whose it is, what is in it, and whether the build may go on there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from filelock import FileLock, Timeout

from headrace.corpus.building.finish import package_versions
from headrace.corpus.catalogue.schema import (
    CORPUS_NAME,
    FILTERED_NAME,
    INDEX_NAME,
    ORIGINS_NAME,
    QUARANTINE_NAME,
)
from headrace.corpus.catalogue.tokens import FOLDER as TOKENS
from headrace.corpus.recipe.load import LoadedRecipe
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.ledger import LEDGER_NAME
from headrace.shards.manifest import MANIFEST_NAME
from headrace.shards.writer import delete_source

FORMAT = 2
"""Raise it when the same recipe and files give another corpus than before."""
BUILD_FOLDER = ".build"
_LOCK_NAME = ".build.lock"
_IDENTITY_NAME = "build.json"
_JOBS = "slurm"
"""Logs and records of the jobs that build."""
_TAKEDOWNS = "takedowns.jsonl"
_AGAIN = "Run it again as it was, or give --overwrite to start again"


@dataclass(frozen=True)
class Identity:
    """What must be the same for an interrupted build to go on."""

    recipe: str
    """Hash of all that the recipe says, but for how much of it may go wrong."""
    inputs: str
    """Hash of the files: paths, sizes, times."""
    versions: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Of recipe, inputs and packages: 32 hexadecimal digits."""
        return _hash([FORMAT, self.recipe, self.inputs, dict(self.versions)])

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return {
            "format": FORMAT,
            "recipe": self.recipe,
            "inputs": self.inputs,
            "versions": dict(self.versions),
            "fingerprint": self.fingerprint,
        }


def identity_of(loaded: LoadedRecipe) -> Identity:
    """The identity of the build that a recipe asks for now."""
    recipe = loaded.recipe.model_dump(
        mode="json", exclude={"limits": {"rejected_share", "rejected_records"}}
    )
    files = [
        [file.source, file.url, file.key, file.stamp.size, file.stamp.version]
        for file in loaded.files
    ]
    fingerprints = [
        loaded.key_fingerprint, loaded.encoder_fingerprint, loaded.language_model_hash
    ]  # fmt: skip
    versions = package_versions(loaded.encoder_fingerprint is not None)
    return Identity(_hash([recipe, *fingerprints]), _hash(files), versions)


def _hash(value: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Two builds must not write one folder; the system frees the lock of a killed process."""
    storage.make_folder(str(output))
    lock = FileLock(output / _LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        remedy = "Wait for it to end, or choose another folder"
        raise CorpusError(
            Problem("another process is building here", str(output), remedy=remedy)
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(
            Problem("cannot be written to", str(output), reason, "Choose another folder")
        ) from error
    try:
        yield
    finally:
        (output / _LOCK_NAME).unlink(missing_ok=True)
        lock.release()


def finished_corpus(output: Path, identity: Identity, overwrite: bool) -> dict[str, Any] | None:
    """What stands in ``corpus.json`` if this very build is finished here; None: there is work.

    Raises:
        CorpusError: if the folder holds another corpus, another build, or anything else.
    """
    if overwrite:
        clear(output)
    found = _json(output / CORPUS_NAME)
    if found is not None:
        if found.get("build") == identity.fingerprint:
            return found
        raise CorpusError(
            Problem(
                "a finished corpus of another recipe, or of other files, is in this folder",
                str(output),
                str(found.get("name")),
                "Choose another folder, or give --overwrite to replace it",
            )
        )
    before = _json(output / BUILD_FOLDER / _IDENTITY_NAME)
    if before is not None:
        _check_same(before, identity, output)
    else:
        own = {_LOCK_NAME, BUILD_FOLDER, _JOBS}
        others = sorted(path.name for path in output.iterdir() if path.name not in own)
        if others:
            raise CorpusError(
                Problem(
                    "the folder holds something that no build of a corpus has left",
                    str(output),
                    ", ".join(others[:3]),
                    "Choose an empty or new folder",
                )
            )
    return None


def _check_same(before: Mapping[str, Any], identity: Identity, output: Path) -> None:
    now = identity.to_json()
    words = {
        "format": "the version of Headrace",
        "recipe": "the recipe, the secret key, the encoder, or the model of languages",
        "inputs": "the files of the sources",
        "versions": "installed packages",
    }
    changed = [what for name, what in words.items() if before.get(name) != now[name]]
    if not changed:
        return
    detail = ", ".join(changed)
    if before.get("versions") != now["versions"]:
        old, new = dict(before.get("versions", {})), now["versions"]
        names = sorted({*old, *new})
        differing = [
            f"{name} {old.get(name)} -> {new.get(name)}"
            for name in names
            if old.get(name) != new.get(name)
        ]
        detail += f" ({', '.join(differing)})"
    raise CorpusError(
        Problem(
            "what an interrupted build here was made of has changed", str(output), detail, _AGAIN
        )
    )


def begin(output: Path, identity: Identity) -> Path:
    """The folder of what lies between the stages, ready for work."""
    folder = output / BUILD_FOLDER
    for name in ("parts", "settled", "index"):
        storage.make_folder(str(folder / name))
        storage.delete_leftovers(str(folder / name))
    data = json.dumps(identity.to_json(), indent=1).encode()
    storage.write_atomically(str(folder / _IDENTITY_NAME), data)
    return folder


def clear(output: Path) -> None:
    """Delete what builds have left in a folder, and nothing else; the finished corpus first.

    Raises:
        CorpusError: if documents have been removed from the corpus: it would have them again.
    """
    if (output / _TAKEDOWNS).exists():
        raise CorpusError(
            Problem(
                "documents were removed from the corpus in this folder, and would be back",
                str(output / _TAKEDOWNS),
                remedy="Build into another folder, without what was removed",
            )
        )
    ours = (output / CORPUS_NAME).exists() or (output / BUILD_FOLDER / _IDENTITY_NAME).exists()
    if not ours:
        return
    (output / CORPUS_NAME).unlink(missing_ok=True)
    for folder in sorted(path for path in output.iterdir() if path.is_dir()):
        names = {path.name for path in folder.iterdir()}
        if MANIFEST_NAME in names or LEDGER_NAME in names:
            delete_source(str(folder))
        elif folder.name not in (BUILD_FOLDER, _JOBS):
            _delete_unfinished(folder)
        if folder.name not in (BUILD_FOLDER, _JOBS) and not any(folder.iterdir()):
            folder.rmdir()
    for name in (INDEX_NAME, FILTERED_NAME, ORIGINS_NAME, QUARANTINE_NAME):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / TOKENS, ignore_errors=True)
    shutil.rmtree(output / BUILD_FOLDER, ignore_errors=True)


def _delete_unfinished(folder: Path) -> None:
    """Shards of a language whose manifest was not written yet."""
    for pattern in ("shard-[0-9]*.tar", "shard-[0-9]*.idx", ".shard-[0-9]*.part"):
        for path in folder.glob(pattern):
            path.unlink()


def end(folder: Path) -> None:
    """Delete what lies between the stages: the corpus is finished."""
    shutil.rmtree(folder, ignore_errors=True)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        remedy = "Give --overwrite to start again"
        raise CorpusError(Problem("the file is damaged", str(path), remedy=remedy))
    return found
