"""Tokens of a corpus: counted against the tokenizer itself, cached, estimated, taken down."""

import json
import math
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from headrace.cli import main
from headrace.corpus.catalogue import tokens as tokens_module
from headrace.corpus.catalogue.catalogue import Catalogue
from headrace.corpus.catalogue.summary import CELLS, summarise
from headrace.corpus.catalogue.tokens import count_tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Pieces of up to three characters, with special tokens around a text."""
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.FixedLength(length=3)]
    )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


def pieces(text):
    """The same in plain Python, for texts of words, spaces and marks that are no letters."""
    backend = pre_tokenizers.Whitespace()
    return sum(math.ceil(len(word) / 3) for word, _ in backend.pre_tokenize_str(text))


def counted(corpus, tokenizer, sample=None):
    with Catalogue(str(corpus.path)) as catalogue:
        counts = count_tokens(catalogue, tokenizer, sample)
        return counts, summarise(catalogue, None, counts)


def by_id(counts):
    return {row["id"]: row["tokens"] for row in counts.table.to_pylist()}


def test_tokens_are_those_of_the_tokenizer(own_corpus, tokenizer):
    counts, summary = counted(own_corpus, tokenizer)
    real = {document.id: pieces(document.text) for document in own_corpus.documents}
    assert by_id(counts) == real
    assert summary["totals"]["tokens"] == sum(real.values())
    groups = defaultdict(int)
    for document in own_corpus.documents:
        register = document.register
        style = register["shape"]
        if "sentences" in register:
            style += f", {register['sentences']} sentences"
        region = "Kenya" if document.source == "news" else "worldwide"
        groups[document.language, region, document.source, document.licence, style] += real[
            document.id
        ]
    cells = {tuple(row[name] for name in CELLS): row["tokens"] for row in summary["cells"]}
    assert cells == groups
    assert len({row["register"] for row in summary["cells"]}) > 2


def test_what_was_counted_is_not_counted_again(own_corpus, tokenizer, monkeypatch):
    first, _ = counted(own_corpus, tokenizer, sample=3)
    assert first.counted == 3 * 5  # five pairs of language and source, one of four documents
    second, _ = counted(own_corpus, tokenizer)
    assert second.counted == len(own_corpus.documents)
    monkeypatch.setattr(tokens_module, "_counted", None)  # nothing is encoded again
    third, _ = counted(own_corpus, tokenizer)
    assert third.table == second.table
    again, _ = counted(own_corpus, tokenizer, sample=3)
    assert again.table == first.table


def test_a_sample_stands_for_its_language_and_source(own_corpus, tokenizer):
    counts, summary = counted(own_corpus, tokenizer, sample=2)
    strata = defaultdict(list)
    for document in own_corpus.documents:
        strata[document.language, document.source].append(document)
    wanted = {}
    for some in strata.values():
        some.sort(key=lambda document: document.id)
        known = {document.id: pieces(document.text) for document in some[:2]}
        rate = sum(known.values()) / sum(len(document.text.encode()) for document in some[:2])
        for document in some:
            estimate = round(rate * len(document.text.encode()))
            wanted[document.id] = known.get(document.id, estimate)
    assert by_id(counts) == wanted
    for column in ("language", "region", "register"):
        total = sum(row["tokens"] for row in summary["by"][column])
        assert total == summary["totals"]["tokens"] == sum(wanted.values())
    assert summary["tokens"]["counted"] == 10
    assert summary["tokens"]["sample"] == 2


def test_the_report_says_what_was_counted(own_corpus, tokenizer, capsys):
    path = str(own_corpus.path)
    assert main(["report", path]) == 0
    page = (own_corpus.path / "report.html").read_text(encoding="utf-8")
    assert "for want of a tokenizer: words and characters stand in" in page
    assert ">Tokens<" not in page
    assert json.loads((own_corpus.path / "report.json").read_text())["totals"]["tokens"] is None
    assert main(["report", path, "--tokenizer", tokenizer, "--token-sample", "2"]) == 0
    said = capsys.readouterr().out
    page = (own_corpus.path / "report.html").read_text(encoding="utf-8")
    report = json.loads((own_corpus.path / "report.json").read_text())
    assert report["tokens"]["tokenizer"] == Path(tokenizer).name
    assert str(Path(tokenizer).parent) not in page
    assert "counted in 10 of 131 documents: up to 2 of each language and source" in page
    for row in report["by"]["language"]:
        assert f"<td>{row['tokens']:,}</td>" in page
        assert f"{row['tokens']:,}" in said
    assert main(["report", path, "--token-sample", "2"]) == 2
    assert main(["report", path, "--tokenizer", str(own_corpus.path / "none")]) == 2
    said = capsys.readouterr().err
    assert "--token-sample: needs a tokenizer" in said
    assert "no such tokenizer folder" in said


def test_counts_of_removed_documents_go(own_corpus, tokenizer):
    counted(own_corpus, tokenizer)
    gone = own_corpus.documents[7].id
    assert main(["remove", str(own_corpus.path), "--id", gone, "--yes", "--no-duplicates"]) == 0
    ids = set()
    for file in (own_corpus.path / "tokens").iterdir():
        ids |= set(pq.read_table(file)["id"].to_pylist())
    assert ids == {document.id for document in own_corpus.documents} - {gone}
    _, summary = counted(own_corpus, tokenizer)
    assert summary["totals"]["tokens"] == sum(
        pieces(document.text) for document in own_corpus.documents if document.id != gone
    )


def test_damaged_counts_are_said(own_corpus, tokenizer, capsys):
    counted(own_corpus, tokenizer)
    file = next((own_corpus.path / "tokens").iterdir())
    file.write_bytes(b"PAR1 no")
    assert main(["report", str(own_corpus.path), "--tokenizer", tokenizer]) == 2
    assert f"{file}: damaged counts of tokens" in capsys.readouterr().err
