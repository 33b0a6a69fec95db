"""The documents of the benchmark ``build``: JSON lines, with copies planted among them."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import regex

from headrace.corpus.sample_corpus import LANGUAGES, generate

LONGEST = 3000
"""Bytes from which on sentences begin another document."""
NEAR = 0.8
"""Jaccard similarity from which on two texts are near-duplicates."""
_PLANTED = 0.1
"""Share of the documents that are copies of others: a third exact, the rest with other words."""
_WORDS, _CHARACTERS = 5, 7
_FEWEST_WORDS = 50
"""Of a document with a near copy."""
_SENTENCES = 400
"""Of each language of the sample corpus; documents are drawn from them."""


@dataclass(frozen=True)
class Text:
    """A document before anything is done to it."""

    id: str
    language: str
    text: str


@dataclass(frozen=True)
class DataSet:
    """Files of documents, and the copies among them."""

    folder: Path
    title: str
    documents: int
    bytes: int
    """Of the files."""
    copies: Mapping[str, tuple[str, float]]
    """Of each planted copy: the id of what it is a copy of, and their Jaccard similarity."""

    @property
    def files(self) -> list[Path]:
        """In order."""
        return sorted(self.folder.glob("*.jsonl"))


def make_data_set(
    folder: Path, *, documents: int, files: int, seed: int, corpora: Path | None
) -> DataSet:
    """Write documents, a tenth of them copies of others, into files of about the same size.

    Args:
        folder: of the files.
        documents: how many there are, with the copies; fewer if the corpora have no more.
        files: how many of them.
        seed: of what is drawn.
        corpora: folder with ``tldr_docs``, ``ntrex128``, ``udhr``, ``cv_sentences``; None: the
            sample corpus.
    """
    draw = random.Random(seed)
    texts = list(originals(corpora, round(documents * (1 - _PLANTED)), seed))
    planted = list(plant(texts, round(len(texts) * _PLANTED / (1 - _PLANTED)), draw))
    everything = [*texts, *(copy for copy, _, _ in planted)]
    draw.shuffle(everything)
    folder.mkdir(parents=True)
    for number in range(files):
        write_lines(folder / f"{number:02d}.jsonl", map(as_line, everything[number::files]))
    return DataSet(
        folder=folder,
        title="sample corpus" if corpora is None else "tldr pages, NTREX, UDHR, Common Voice",
        documents=len(everything),
        bytes=sum(path.stat().st_size for path in folder.glob("*.jsonl")),
        copies={copy.id: (original, value) for copy, original, value in planted},
    )


def as_line(text: Text) -> str:
    """A document as a line of JSON."""
    return json.dumps({"id": text.id, "text": text.text}, ensure_ascii=False)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text as UTF-8."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def originals(corpora: Path | None, count: int, seed: int) -> Iterator[Text]:
    """Different documents, about as many of each kind and language."""
    streams = _sample_documents(seed) if corpora is None else _real_documents(corpora)
    seen: set[str] = set()
    dealt = itertools.chain.from_iterable(itertools.zip_longest(*streams))
    fresh = (one for one in dealt if one is not None)
    for one in fresh:
        if one.text not in seen:
            seen.add(one.text)
            yield one
        if len(seen) == count:
            return


def plant(
    texts: Sequence[Text], count: int, draw: random.Random
) -> Iterator[tuple[Text, str, float]]:
    """Copies of texts with the ids of these and the Jaccard similarities."""
    chosen = [one for one in texts if len(one.text.split()) >= _FEWEST_WORDS]
    for number, original in enumerate(draw.sample(chosen, min(count, len(chosen)))):
        words = original.text.split(" ")
        if number % 3:
            for place in draw.sample(range(len(words)), draw.randint(1, 1 + len(words) // 40)):
                words[place] = words[draw.randrange(len(words))]
        text = " ".join(words)
        copy = Text(f"copy-{number}", original.language, text)
        yield copy, original.id, jaccard(original.text, text)


def jaccard(first: str, second: str, unit: str = "words") -> float:
    """Similarity of the sets of runs of five words, or of seven characters, without any hashing."""
    one, other = _shingles(first, unit), _shingles(second, unit)
    return len(one & other) / max(len(one | other), 1)


def _shingles(text: str, unit: str) -> set[tuple[str, ...]]:
    lower = text.casefold()
    words = unit == "words"
    units = regex.findall(r"\w+", lower) if words else list(" ".join(lower.split()))
    length = min(_WORDS if words else _CHARACTERS, len(units))
    return {tuple(units[place : place + length]) for place in range(len(units) - length + 1)}


def _sample_documents(seed: int) -> list[Iterator[Text]]:
    """Runs of sentences of the sample corpus, drawn without end."""

    def documents(language: str) -> Iterator[Text]:
        draw = random.Random(f"{language} {seed}")
        sentences = [" ".join(one.tokens) for one in generate(language, "train", _SENTENCES, seed)]
        for number in itertools.count():
            size = draw.randint(5, 30)
            yield Text(f"{language}-{number}", language, " ".join(draw.choices(sentences, k=size)))

    return [documents(language) for language in LANGUAGES]


def _real_documents(corpora: Path) -> list[Iterator[Text]]:
    streams: list[Iterator[Text]] = []
    for path in sorted((corpora / "tldr_docs").glob("??.jsonl")):
        streams.append(_pages(path))
    for path in sorted((corpora / "ntrex128").glob("??.tsv")):
        streams.append(_joined(path, "ntrex"))
    for path in sorted((corpora / "udhr").glob("??.tsv")):
        streams.append(_joined(path, "udhr"))
    for path in sorted((corpora / "cv_sentences").glob("??.txt*")):
        streams.append(_runs(path))
    return streams


def _pages(path: Path) -> Iterator[Text]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            page = json.loads(line)
            yield Text(f"tldr-{path.stem}-{page['id']}", path.stem, page["text"])


def _joined(path: Path, kind: str) -> Iterator[Text]:
    """News by their articles, and a declaration as a whole."""
    with path.open(encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    place = 1 if kind == "ntrex" else None
    for name, group in itertools.groupby(rows, lambda row: "" if place is None else row[place]):
        text = "\n".join(row[-1] for row in group)
        yield Text(f"{kind}-{path.stem}-{name}", path.stem, text)


def _runs(path: Path) -> Iterator[Text]:
    """Sentences that stand behind each other, of up to three thousand bytes."""
    language = path.name.partition(".")[0]
    opened = gzip.open if path.suffix == ".gz" else open
    held: list[str] = []
    size, number = 0, 0
    with opened(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            sentence = line.strip()
            held.append(sentence)
            size += len(sentence.encode()) + 1
            if size >= LONGEST:
                yield Text(f"cv-{language}-{number}", language, " ".join(held))
                held, size, number = [], 0, number + 1
