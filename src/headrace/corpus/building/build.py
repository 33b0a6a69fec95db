"""Building a corpus: the stages, one behind the other, each resumed where it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from headrace.corpus.building import state
from headrace.corpus.building.finish import (
    count,
    join_quarantine,
    join_tables,
    language_counts,
    private_counts,
    varieties,
    without_original,
    write_manifests,
)
from headrace.corpus.building.ledger import Ledger
from headrace.corpus.building.part_work import examine_part, part_path
from headrace.corpus.building.parts import Part, cut
from headrace.corpus.building.reject_limit import RejectLimit
from headrace.corpus.building.repeated_keys import find_repeated, reject_rows
from headrace.corpus.building.sandbox import SandboxSettings
from headrace.corpus.building.settle import filtered_path, quarantine_path, settle_part
from headrace.corpus.building.shard_work import ShardPlan, index_path, plan_shards, write_shard
from headrace.corpus.building.warnings import warnings_of
from headrace.corpus.building.workers import Workers
from headrace.corpus.catalogue.schema import CORPUS_NAME
from headrace.corpus.duplicates.layout import Part as SearchedPart
from headrace.corpus.duplicates.search import Summary, find_duplicates
from headrace.corpus.media import MediaSettings
from headrace.corpus.media import parts as ranges_of
from headrace.corpus.recipe.files import recorded_patterns
from headrace.corpus.recipe.load import LoadedRecipe
from headrace.corpus.recipe.settings import Recipe, Source
from headrace.errors import CorpusError, Problem
from headrace.file_hash import hash_of
from headrace.shards import storage
from headrace.shards.index import index_url

_LOOKERS = 16
"""Files that are looked at in one go, to see how they can be cut."""


def cut_files(loaded: LoadedRecipe) -> list[Part]:
    """The parts of a build.

    Raises:
        UserError: if a reader needs a package that is not installed, or a store does not answer.
    """
    recipe = loaded.recipe
    size = recipe.limits.part_bytes

    def ranges(number: int) -> list[tuple[int, int | None]]:
        file = loaded.files[number]
        return ranges_of(file.url, recipe.sources[file.source], size=size)

    with ThreadPoolExecutor(_LOOKERS) as lookers:
        found = lookers.map(ranges, range(len(loaded.files)))
        return cut(zip(loaded.files, found, strict=True), size)


def build_corpus(
    loaded: LoadedRecipe,
    output: Path,
    open_workers: Callable[[], AbstractContextManager[Workers]],
    *,
    overwrite: bool = False,
    keep_intermediate: bool = False,
) -> dict[str, Any]:
    """Build a corpus, or go on with a build that was interrupted.

    Args:
        loaded: the recipe and its files.
        output: folder of the corpus.
        open_workers: gives the workers; called if there is work for them.
        overwrite: replace what a build has left in the folder.
        keep_intermediate: keep what lies between the stages.

    Returns:
        What stands in ``corpus.json``.

    Raises:
        UserError: if the folder holds something else, too many records are rejected, a package is
            missing, or the storage fails; nothing that was done is lost.
        HeadraceError: if workers die, or the counts do not add up.
    """
    identity = state.identity_of(loaded)
    with state.locked(output):
        found = state.finished_corpus(output, identity, overwrite)
        if found is not None:
            if not keep_intermediate:
                state.end(output / state.BUILD_FOLDER)
            return found
        folder = state.begin(output, identity)
        parts = cut_files(loaded)
        with open_workers() as workers:
            if workers.dashboard is not None:
                tqdm.write(f"dashboard: {workers.dashboard}")
            build = _Build(loaded, output, folder, parts, workers, identity)
            document = build.run()
        if not keep_intermediate:
            state.end(folder)
        return document


class _Build:
    """The stages of one build."""

    def __init__(
        self,
        loaded: LoadedRecipe,
        output: Path,
        folder: Path,
        parts: Sequence[Part],
        workers: Workers,
        identity: state.Identity,
    ) -> None:
        self._loaded = loaded
        self._recipe = loaded.recipe
        self._output = output
        self._folder = folder
        self._parts = parts
        self._workers = workers
        self._identity = identity

    def run(self) -> dict[str, Any]:
        """All stages; what stands in ``corpus.json``."""
        done = self._examine()
        summary = self._find_duplicates()
        settled = self._settle(summary is not None)
        shards = self._write([one["languages"] for one in settled])
        return self._finish(done, summary, shards)

    def _examine(self) -> list[dict[str, Any]]:
        """The ledger's lines of all parts, in order."""
        recipe = self._recipe
        settings = SandboxSettings(
            # a column that the recipe names must be in a file, and those by default need not
            recipe.model_dump_json(exclude_unset=True),
            recipe.limits.memory_bytes,
            recipe.limits.seconds,
        )
        ids = [source.id for source in recipe.sources]
        ledger = Ledger(self._folder / "parts.jsonl")
        done = {row["part"]: row for row in ledger.rows if self._is_intact(row)}
        todo = [part for part in self._parts if part.number not in done]
        limit = self._limit(done)
        bar = tqdm(
            total=sum(part.size for part in self._parts),
            initial=sum(part.size for part in self._parts if part.number in done),
            desc="examine",
            unit="B",
            unit_scale=True,
            disable=None,
        )
        task = partial(_examine_part, settings, ids, str(self._folder))
        try:
            limit.check()
            with bar, closing(self._workers.run(task, todo)) as results:
                for part, row in results:
                    ledger.add(row)
                    done[part.number] = row
                    bar.update(part.size)
                    bar.set_postfix(_totals(done.values()), refresh=False)
                    limit.add(part, row)
                    if row["rejected"]:
                        limit.check([part.slices[0].file.source])
            for row in self._reject_repeated(done):
                ledger.add(row)
                done[row["part"]] = row
        finally:
            ledger.close()
        self._limit(done).check()
        return [done[part.number] for part in self._parts]

    def _limit(self, done: Mapping[int, Mapping[str, Any]]) -> RejectLimit:
        """The parts that are done, counted."""
        limit = RejectLimit(self._recipe, self._parts, self._folder)
        for part in self._parts:
            if part.number in done:
                limit.add(part, done[part.number])
        return limit

    def _is_intact(self, row: Mapping[str, Any]) -> bool:
        path = part_path(self._folder, f"{row['part']:06d}")
        return path.exists() and hash_of(path) == row["hash"]

    def _reject_repeated(self, done: Mapping[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The lines of parts whose tables were written again, without repeated keys."""
        files = [part_path(self._folder, part.name) for part in self._parts]
        for number, rows in find_repeated(files, self._folder).items():
            yield {**done[number], **reject_rows(files[number], rows)}

    def _find_duplicates(self) -> Summary | None:
        settings = self._recipe.duplicates
        if settings is None:
            return None
        ids = [source.id for source in self._recipe.sources]
        searched = [
            SearchedPart(part_path(self._folder, part.name), ids[part.slices[0].file.source])
            for part in self._parts
        ]
        return find_duplicates(searched, self._duplicates_folder, settings, self._workers.each)

    @property
    def _duplicates_folder(self) -> Path:
        return self._folder / "duplicates"

    def _settle(self, searched: bool) -> Sequence[dict[str, Any]]:
        """Counts of each part, in order."""
        duplicates = self._duplicates_folder if searched else None
        task = partial(settle_part, self._folder, duplicates)
        return self._workers.each(task, range(len(self._parts)))

    def _write(self, languages: Sequence[dict[str, int]]) -> list[dict[str, Any]]:
        """The ledger's lines of all shards."""
        plans = plan_shards(languages, self._recipe.output.samples_per_shard)
        if not plans:
            remedy = "Look at filtered.parquet and quarantine.jsonl of a build that keeps something"
            raise CorpusError(Problem("no document is left to write", "recipe", remedy=remedy))
        for language in {plan.language for plan in plans}:
            storage.delete_leftovers(str(self._output / language))
        ledger = Ledger(self._folder / "shards.jsonl")
        done = {(row["language"], row["number"]): row for row in ledger.rows if self._is_there(row)}
        bar = tqdm(
            total=sum(_documents(plan) for plan in plans),
            initial=sum(row["entry"]["samples"] for row in done.values()),
            desc="write",
            unit=" documents",
            disable=None,
        )
        todo = [plan for plan in plans if (plan.language, plan.number) not in done]
        task = partial(write_shard, self._folder, self._output, self._recipe.keeps_originals)
        try:
            with bar:
                for plan, row in self._workers.run(task, todo):
                    ledger.add(row)
                    done[plan.language, plan.number] = row
                    bar.update(_documents(plan))
        finally:
            ledger.close()
        return [done[plan.language, plan.number] for plan in plans]

    def _is_there(self, row: Mapping[str, Any]) -> bool:
        path = self._output / row["language"] / row["entry"]["name"]
        index = Path(index_url(str(path)))
        plan = ShardPlan(row["language"], row["number"], ())
        whole = path.exists() and path.stat().st_size == row["entry"]["bytes"]
        return whole and index.exists() and index_path(self._folder, plan).exists()

    def _finish(
        self,
        done: Sequence[Mapping[str, Any]],
        summary: Summary | None,
        shards: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        """Everything that stands beside the shards; ``corpus.json`` is the last file."""
        recipe, output = self._recipe, self._output
        about = {
            "corpus": recipe.name,
            "version": recipe.version,
            "build": self._identity.fingerprint,
        }
        manifests = write_manifests(output, shards, about)
        names = [part.name for part in self._parts]
        plans = [ShardPlan(row["language"], row["number"], ()) for row in shards]
        join_tables(
            output,
            [index_path(self._folder, plan) for plan in plans],
            [filtered_path(self._folder, name) for name in names],
        )
        join_quarantine(output, [quarantine_path(self._folder, name) for name in names])
        read: Counter[str] = Counter()
        for row in done:
            read[row["source"]] += row["read"]
        ids = [source.id for source in recipe.sources]
        document = {
            "name": recipe.name,
            "version": recipe.version,
            "description": recipe.description,
            "build": self._identity.fingerprint,
            "recipe": _recorded(recipe),
            "recipe_fingerprint": self._identity.recipe,
            "key_fingerprint": self._loaded.key_fingerprint,
            "encoder_fingerprint": self._loaded.encoder_fingerprint,
            "language_model_hash": self._loaded.language_model_hash,
            "sources": [_about(source) for source in recipe.sources],
            "counts": count(output, ids, read),
            "languages": language_counts(output, manifests),
            "duplicates": None if summary is None else vars(summary),
            "private": private_counts(output),
            "warnings": warnings_of(recipe, varieties(output), without_original(output), done),
            "versions": dict(self._identity.versions),
        }
        data = json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"
        storage.write_atomically(str(output / CORPUS_NAME), data)
        return dict(json.loads(data))


def _examine_part(
    settings: SandboxSettings, ids: Sequence[str], folder: str, part: Part
) -> dict[str, Any]:
    return examine_part(part, settings, ids[part.slices[0].file.source], folder)


def _totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for row in rows:
        totals["documents"] += row["read"]
        totals["rejected"] += row["rejected"]
    return dict(totals)


def _documents(plan: ShardPlan) -> int:
    return sum(piece.count for piece in plan.pieces)


def _recorded(recipe: Recipe) -> dict[str, Any]:
    """The recipe; of files not where they lie on this machine."""
    document = recipe.model_dump(mode="json")
    for written, source in zip(document["sources"], recipe.sources, strict=True):
        written.update(_files(source))
    if document["privacy"] is not None:
        for name in ("key", "packs"):
            path = document["privacy"][name]
            document["privacy"][name] = None if path is None else Path(path).name
    if recipe.languages.model is not None:
        document["languages"]["model"] = Path(recipe.languages.model).name
    if recipe.duplicates is not None and recipe.duplicates.semantic is not None:
        found = Path(recipe.duplicates.semantic.model).name
        document["duplicates"]["semantic"]["model"] = found
    return document


def _about(source: Source) -> dict[str, Any]:
    """All that the recipe says of a source but how it is read."""
    reading = set(MediaSettings.model_fields)
    return {**source.model_dump(mode="json", exclude=reading), **_files(source)}


def _files(source: Source) -> dict[str, list[str]]:
    both = recorded_patterns([*source.files, *source.except_files])
    count = len(source.files)
    return {"files": both[:count], "except_files": both[count:]}
