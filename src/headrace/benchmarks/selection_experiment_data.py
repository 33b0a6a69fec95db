"""The rows of the selection experiment: redundant sources, and what each method chooses of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from tqdm import tqdm

from headrace.benchmarks.selection_experiment_plan import HALF, Settings, Trial
from headrace.corpus.augment import augment_source
from headrace.corpus.build import build_source
from headrace.corpus.readers import read
from headrace.corpus.sample_corpus.randomness import fraction
from headrace.corpus.statistics import is_question
from headrace.errors import CorpusError, Problem
from headrace.selection.carry_out import run_selection
from headrace.selection.doc2vec import Doc2VecSettings
from headrace.selection.inputs import Inputs
from headrace.selection.job import SelectionJob, check
from headrace.selection.limits import Limits
from headrace.shards import storage
from headrace.shards.reader import ShardReader
from headrace.shards.sample import Sample
from headrace.stream.selected import REPORT, ROWS
from headrace.training.results import write_json

_EMBEDDING_SECONDS = "embedding_seconds.json"


class Corpus:
    """The sources of an experiment and the selections from them, in its folder."""

    def __init__(self, settings: Settings, output: Path) -> None:
        self.settings = settings
        self.output = output

    @property
    def test(self) -> str:
        """URL of the test source."""
        return str(self.output / "data" / "test")

    def source(self, trial: Trial) -> str:
        """URL of the source that a trial chooses from."""
        return self._source(trial.seed, trial.density)

    def selection(self, trial: Trial) -> Path | None:
        """Folder of what a trial is trained on; None if on all rows."""
        if trial.method == "full":
            return None
        parts = [f"seed-{trial.seed}", f"copies-{100 * trial.density:g}", trial.method]
        parts += [f"rows-{trial.rows}"] if trial.rows else []
        parts += [] if trial.trade_off is None else [f"lambda-{trial.trade_off}"]
        return self.output / "selections" / "_".join(parts)

    def prepare(self, trials: Sequence[Trial]) -> None:
        """Build the sources and make the selections that are not there yet."""
        self._build()
        with tqdm(trials, desc="choosing", unit=" trial", disable=None) as bar:
            for trial in bar:
                folder = self.selection(trial)
                if folder is not None and not (folder / REPORT).exists():
                    self._choose(trial, folder)

    def contents(self, trial: Trial) -> Mapping[str, str]:
        """The content of each row that a trial chooses from, by id."""
        return _contents(self.source(trial), self.settings.language)

    def chosen(self, trial: Trial) -> list[str]:
        """The ids of the rows that a trial is trained on."""
        folder = self.selection(trial)
        if folder is None:
            return list(self.contents(trial))
        found: list[str] = pyarrow.parquet.read_table(folder / ROWS)["id"].to_pylist()
        return found

    def report(self, trial: Trial) -> dict[str, Any] | None:
        """The report of a trial's selection."""
        folder = self.selection(trial)
        if folder is None:
            return None
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        return report

    def test_facts(self) -> dict[str, Any]:
        """Number of test questions, and the accuracy of guessing."""
        samples = [sample.metadata for sample in ShardReader(self.test)]
        chance = sum(1 / len(sample["choices"]) for sample in samples) / len(samples)
        return {"samples": len(samples), "chance": chance}

    def embedding_seconds(self) -> dict[str, Any]:
        """Wall and processor seconds of embedding the rows of a seed, by embedding."""
        path = self.output / _EMBEDDING_SECONDS
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _source(self, seed: int, density: float) -> str:
        name = "distinct" if density == 0 else f"copies-{100 * density:g}"
        return str(self.output / "data" / f"seed-{seed}" / name)

    def _build(self) -> None:
        """Test source, base sources, and those with copies; what is there already stays."""
        settings = self.settings
        samples = list(read(settings.corpus, language=settings.language))
        if settings.test is None:
            samples, test = hold_out(samples, settings.test_rows, settings.rows)
        else:
            test = list(read(settings.test, language=settings.language))
            test = _drawn(test, "test", min(settings.test_rows, len(test)))
            hold_out(samples, 0, settings.rows)
        self._write(test, Path(self.test))
        for seed in settings.seeds:
            base = Path(self._source(seed, 0))
            self._write(_drawn(samples, f"base {seed}", settings.rows), base)
            for density in {HALF, *settings.densities} - {0.0}:
                # added / (rows + added) = density
                share = density / (1 - density) / settings.copies
                target = self._source(seed, density)
                augment_source(str(base), target, share=share, copies=settings.copies, seed=seed)

    def _write(self, samples: Sequence[Sample], folder: Path) -> None:
        lines = folder.with_suffix(".jsonl")
        text = "".join(json.dumps(sample.metadata, ensure_ascii=False) + "\n" for sample in samples)
        storage.make_folder(str(lines.parent))
        storage.write_atomically(str(lines), text.encode())
        build_source([str(lines)], str(folder), self.settings.language, format="multiple_choice")

    def _choose(self, trial: Trial, folder: Path) -> None:
        if trial.method.startswith("distinct"):
            self._choose_distinct(trial, folder)
            return
        job = self._job(trial, folder, Limits(rows=trial.rows))
        self._embed(trial, job)
        run_selection(job)

    def _job(self, trial: Trial, folder: Path, limits: Limits) -> SelectionJob:
        doc2vec = trial.method == "graph_cut_doc2vec"
        common: dict[str, Any] = {
            "output": str(folder),
            "limits": limits,
            "sources": {self.settings.language: self.source(trial)},
            "cache": str(self.output / "embeddings" / self._embedding(trial)),
            "seed": trial.seed,
            "max_length": self.settings.max_length,
        }
        if doc2vec:
            common["doc2vec"] = Doc2VecSettings(seed=trial.seed)
        else:
            common["encoder"] = self.settings.encoder
        if trial.method == "random":
            return SelectionJob(**common, method="random")
        if trial.method == "facility_location":
            return SelectionJob(**common, objective="facility_location")
        return SelectionJob(**common, method="exact_greedy", trade_off=trial.trade_off or 0.0)

    def _embedding(self, trial: Trial) -> str:
        name = "doc2vec" if trial.method == "graph_cut_doc2vec" else "encoder"
        return f"{name}_seed-{trial.seed}_copies-{100 * trial.density:g}"

    def _embed(self, trial: Trial, job: SelectionJob) -> Inputs:
        """Embed, and keep how long it took, unless an earlier start had done a part of it."""
        task = check(job)
        key = self._embedding(trial)
        begun = Path(job.cache).exists()
        wall, processor = time.perf_counter(), time.process_time()
        inputs = task.embedded(show=False)
        if not begun:
            path = self.output / _EMBEDDING_SECONDS
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            known[key] = {
                "rows": len(inputs.candidates.ids),
                "wall_seconds": time.perf_counter() - wall,
                "processor_seconds": time.process_time() - processor,
            }
            write_json(path, known)
        return inputs

    def _choose_distinct(self, trial: Trial, folder: Path) -> None:
        """One row of each content, the first by id; all of them, or some at random."""
        inputs = self._embed(trial, self._job(trial, folder, Limits(rows=1)))
        contents = self.contents(trial)
        ids = [identifier.decode() for identifier in inputs.candidates.ids]
        firsts: dict[str, int] = {}
        for row in sorted(range(len(ids)), key=lambda row: (len(ids[row]), ids[row])):
            firsts.setdefault(contents[ids[row]], row)
        rows = np.array(sorted(firsts.values()))
        base = self.output / "distinct" / folder.name
        storage.make_folder(str(base.parent))
        np.save(f"{base}.npy", inputs.vectors[rows])
        text = "".join(f"{ids[row]}\n" for row in rows)
        storage.write_atomically(f"{base}.ids", text.encode())
        run_selection(
            SelectionJob(
                output=str(folder),
                limits=Limits(rows=trial.rows or len(rows)),
                vectors=f"{base}.npy",
                ids=f"{base}.ids",
                method="random",
                seed=trial.seed,
            )
        )


def hold_out(
    samples: Sequence[Sample], test_rows: int, rows: int
) -> tuple[list[Sample], list[Sample]]:
    """Questions to train on and test questions, drawn by their keys.

    Raises:
        CorpusError: if these are no questions, or too few.
    """
    if not all(is_question(sample.metadata) for sample in samples):
        raise CorpusError(Problem("not multiple-choice questions", "--corpus"))
    if len(samples) < test_rows + rows:
        value = f"{len(samples)}, not {test_rows + rows}"
        raise CorpusError(Problem("too few questions", "--corpus", value))
    test = _drawn(samples, "test", test_rows)
    held = {sample.key for sample in test}
    return [sample for sample in samples if sample.key not in held], test


def repeated_share(contents: Mapping[str, str], ids: Iterable[str]) -> float:
    """Share of the rows that repeat another one of them."""
    chosen = [contents[identifier] for identifier in ids]
    return 1 - len(set(chosen)) / len(chosen)


def _drawn(samples: Sequence[Sample], purpose: str, count: int) -> list[Sample]:
    """Some samples, drawn by purpose and key, in the order of the corpus."""
    order = sorted(samples, key=lambda sample: (fraction(purpose, sample.key), sample.key))
    chosen = {sample.key for sample in order[:count]}
    return [sample for sample in samples if sample.key in chosen]


@cache
def _contents(url: str, language: str) -> Mapping[str, str]:
    return {
        f"{language}/{sample.key}": json.dumps(
            [sample.metadata[name] for name in ("context", "choices", "label")]
        )
        for sample in ShardReader(url)
    }
