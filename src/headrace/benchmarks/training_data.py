"""The sentences of the benchmark ``training``: real ones where they are at hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from headrace.corpus.build import build_source
from headrace.corpus.sample_corpus import generate, write_conll

REAL_ENTITIES = ("bn", "de", "en", "hi", "zh")
"""Languages of MultiCoNER II with a training file."""


@dataclass(frozen=True)
class Sources:
    """What was written: one source a language, named by it."""

    title: str
    languages: tuple[str, ...]


def write_sources(
    task: Literal["token_classification", "masked_lm"],
    languages: Sequence[str],
    sentences: int,
    corpora: Path | None,
    folder: Path,
    seed: int,
) -> Sources:
    """Write sentences as shards.

    Args:
        task: what they are for: with tags, or plain.
        languages: of the sample corpus.
        sentences: of the first language of the sample corpus, whose n-th has 1 / n of them; at
            most so many of each real language with entities, and of plain text as many in all.
        corpora: folder with ``multiconer_v2`` and ``cv_sentences``; None: the sample corpus.
        folder: where the sources go.
        seed: of the sample corpus.
    """
    if corpora is None:
        for number, language in enumerate(languages):
            file = folder / f"{language}.conll"
            count = max(1, sentences // (number + 1))
            write_conll(str(file), generate(language, "train", count, seed))
            build_source([str(file)], str(folder / language), language)
        return Sources("sample corpus", tuple(languages))
    if task == "token_classification":
        for language in REAL_ENTITIES:
            file = _file(corpora / "multiconer_v2", f"{language}_train.conll")
            build_source([str(file)], str(folder / language), language, limit=sentences)
        return Sources("MultiCoNER II", REAL_ENTITIES)
    files = (corpora / "cv_sentences").glob("[a-z][a-z].txt*")
    found = sorted({path.name.partition(".")[0] for path in files})
    for language in found:
        text = folder / f"{language}.jsonl"
        count = sentences * len(REAL_ENTITIES) // len(found)
        lines = islice(_lines(_file(corpora / "cv_sentences", f"{language}.txt")), count)
        text.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
        build_source([str(text)], str(folder / language), language)
    return Sources("sentences of Common Voice", tuple(found))


def _file(folder: Path, name: str) -> Path:
    """A file, plain or packed."""
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def _lines(file: Path) -> Iterator[str]:
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield line.strip()
