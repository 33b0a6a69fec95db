"""datatrove: JSON lines, normalised, told by language, without addresses, MinHash in four stages.

``stock`` is as its examples have it: the tokenizer of spaCy for English, a pass for each stage,
gzip.  ``tuned`` splits words at white space, makes the signatures in the first pass, and leaves
out gzip.  It needs no pass for exact copies: their signatures are equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
from datatrove.pipeline.base import PipelineStep  # type: ignore[import-not-found]
from datatrove.pipeline.dedup import (  # type: ignore[import-not-found]
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.filters import LanguageFilter  # type: ignore[import-not-found]
from datatrove.pipeline.formatters import (  # type: ignore[import-not-found]
    FTFYFormatter,
    PIIFormatter,
)
from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found]
from datatrove.pipeline.writers import JsonlWriter  # type: ignore[import-not-found]
from datatrove.utils.lid import FastTextLID  # type: ignore[import-not-found]
from datatrove.utils.word_tokenizers import WordTokenizer  # type: ignore[import-not-found]

BUCKETS = 14
"""As by default; each is a task of the second stage."""


class WhiteSpace(WordTokenizer):  # type: ignore[misc]
    """Words as they stand between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        """What MinHash makes its shingles of."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Not used here."""
        return text.splitlines()

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Not used here."""
        return [(0, len(text))]


class TrainedHere(FastTextLID):  # type: ignore[misc]
    """A model on this machine in place of one that is downloaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The model, loaded when a task asks for it first."""
        if self._model is None:
            from fasttext.FastText import _FastText

            self._model = _FastText(self.path)
        return self._model


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Build a corpus; with ``stages`` 1 only what is done to each document."""
    work, output = Path(task["work"]), task["output"]
    tuned = task["tuned"]
    compression = None if tuned else "gzip"
    tokenizer = {"language": WhiteSpace()} if tuned else {}
    signature = MinhashDedupSignature(str(work / "signatures"), **tokenizer)
    base = str(work / "base")
    first: list[PipelineStep] = [
        JsonlReader(task["input"]),
        FTFYFormatter(
            unescape_html=False, fix_encoding=False, fix_line_breaks=True, normalization="NFC"
        ),
        _language(task["model"]),
        PIIFormatter(),
        JsonlWriter(base, compression=compression),
    ]
    if tuned:
        first.append(signature)
    common = {"workers": task["workers"]}

    def execute(name: str, tasks: int, *pipeline: PipelineStep) -> None:
        logs = str(work / "logs" / name)
        LocalPipelineExecutor(list(pipeline), tasks, logging_dir=logs, **common).run()

    files = task["tasks"]
    execute("first", files, *first)
    if task.get("stages") == 1:
        return {}
    if not tuned:
        execute("signatures", files, JsonlReader(base), signature)
    matches, removals = str(work / "matches"), str(work / "removals")
    with_clusters = task.get("clusters", False)
    execute("matches", BUCKETS, MinhashDedupBuckets(str(work / "signatures"), matches))
    execute("clusters", 1, MinhashDedupCluster(matches, removals, save_cluster_id=with_clusters))
    removed = JsonlWriter(str(work / "excluded"), compression=None) if with_clusters else None
    last = (
        JsonlReader(base),
        MinhashDedupFilter(removals, exclusion_writer=removed, load_cluster_ids=with_clusters),
        JsonlWriter(output, compression=compression),
    )
    execute("last", files, *last)
    return {}


def _language(model: str) -> LanguageFilter:
    """Notes the language of each document; all stay."""
    step = LanguageFilter(label_only=True)
    step.model = TrainedHere(model)
    return step
