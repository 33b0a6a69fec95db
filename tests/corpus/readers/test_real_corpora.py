from __future__ import annotations

import ast
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from headrace.corpus.readers import Columns, detect_format, read

DATA = Path(os.environ.get("HEADRACE_DATA", "/nonexistent"))
FOLDERS = ("multiconer_v2", "multiconer_v1", "uner")

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="HEADRACE_DATA does not name the folder of the real corpora"
)


def stated() -> list[tuple[str, dict[str, object]]]:
    """File and counts of each named-entity corpus, from the table of the corpora."""
    table = (DATA / "README.md").read_text(encoding="utf-8") if DATA.is_dir() else ""
    rows = re.findall(r"^\| (\S+) \| .*?(\{\"sent\".*\})", table, re.MULTILINE)
    return [(name, ast.literal_eval(counts)) for name, counts in rows]


def test_every_file_is_in_the_table() -> None:
    files = {
        f"{folder}/{path.name}"
        for folder in FOLDERS
        for path in (DATA / folder).iterdir()
        if path.suffix in (".conll", ".iob2", ".gz")
    }
    assert {name for name, _ in stated()} == files


@pytest.mark.parametrize(("name", "counts"), stated(), ids=[name for name, _ in stated()])
def test_counts(name: str, counts: dict[str, object]) -> None:
    url = str(DATA / name)
    assert detect_format(url) == ("iob2" if name.startswith("uner") else "multiconer")
    sentences = tokens = 0
    entities: Counter[str] = Counter()
    keys = set()
    for sample in read(url):
        sentences += 1
        metadata = sample.metadata
        tokens += len(metadata["tokens"])
        entities.update(tag[2:] for tag in metadata["tags"] if tag[0] == "B")
        keys.add(sample.key)
    assert sentences == len(keys) == counts["sent"]
    assert tokens == counts.get("tokens", tokens)
    assert entities.total() == counts["entities"]
    types = counts["types"]
    assert (entities if isinstance(types, dict) else len(entities)) == types


LABELLED = {
    "qnli/qnli_dev_a.tsv": (True, 2),
    "med_nli/med.tsv": (True, 2),
    "banking77/train.tsv": (False, 77),
    "clinc150/train.tsv": (False, 150),
    "clinc150/oos_val.tsv": (False, 1),
    "afrisenti/hau_dev.tsv": (False, 3),
    "afrisenti/por_train.tsv": (False, 3),
    "jglue/jsts_train.jsonl.gz": (True, None),
}
"""File -> whether it has pairs, and its labels; None: scores."""


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_texts(name: str) -> None:
    is_pair, labels = LABELLED[name]
    columns = Columns(score="label") if labels is None else None
    table = (DATA / "README.md").read_text(encoding="utf-8")
    rows = re.search(rf"^\| {re.escape(name)} \| (\d+) rows", table, re.MULTILINE)
    samples = [sample.metadata for sample in read(str(DATA / name), columns=columns)]
    assert rows is not None
    assert len(samples) == int(rows[1])
    assert all(("pair" in sample) == is_pair for sample in samples)
    if labels is None:
        assert all(0 <= sample["score"] <= 5 for sample in samples)
    else:
        assert len({sample["label"] for sample in samples}) == labels
