"""Semantic duplicates with a pretrained encoder, against all cosines, and in a build."""

import builtins
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModel, AutoTokenizer

from headrace.cli import main
from headrace.corpus.documents import content_hash, document_id
from headrace.corpus.duplicates import (
    EXACT_RULE,
    NEAR_RULE,
    SEMANTIC_RULE,
    DuplicatesSettings,
    NearSettings,
    Part,
    SemanticSettings,
    Signer,
    find_duplicates,
    read_decisions,
)
from headrace.corpus.duplicates.semantic import encoder_of

pytest.importorskip("faiss")
PAIRS = [
    ("The cat is sleeping on the sofa in the living room.",
     "The cat sleeps on the couch in the living room."),
    ("How can I learn to play the guitar quickly?",
     "What is the fastest way to learn to play the guitar?"),
    ("The company announced that it will cut two thousand jobs next year.",
     "Next year the company is going to cut 2,000 jobs, it announced."),
    ("Heavy rain caused floods in the south of the country.",
     "Floods were caused by heavy rain in the south of the country."),
]  # fmt: skip
OTHERS = [
    "The recipe needs three eggs and a spoon of sugar.",
    "The parliament votes on the new budget this afternoon.",
    "A telescope in Chile has found a planet like the Earth.",
    "My bicycle has a flat tyre and the pump is broken.",
    "The orchestra played a symphony by a young composer.",
]
LONG = " ".join(OTHERS)
THRESHOLD = 0.8


@pytest.fixture(scope="module")
def settings(minilm):
    semantic = SemanticSettings(model=str(minilm), threshold=THRESHOLD)
    return DuplicatesSettings(near=NearSettings(threshold=0.7), semantic=semantic)


def write_part(path, rows, settings):
    signer = Signer(settings.near)
    table = []
    for key, language, text in rows:
        signature = signer.signature(text).astype("<u4").tobytes()
        table.append(
            {"outcome": "kept", "id": document_id("s", key), "content_hash": content_hash(text),
             "characters": len(text), "language": language, "text": text.encode(),
             "signature": signature}
        )  # fmt: skip
    table.append({"outcome": "rejected"})
    pq.write_table(pa.Table.from_pylist(table), path)
    return Part(path, "s")


def rows_of_all():
    rows = [(f"a{n}", "en", one) for n, (one, _) in enumerate(PAIRS)]
    rows += [(f"o{n}", "en", text) for n, text in enumerate(OTHERS)]
    rows += [("long", "en", LONG), ("exact", "en", PAIRS[0][0]), ("near", "en", f"{LONG} And so.")]
    rows += [(f"b{n}", "en", two) for n, (_, two) in enumerate(PAIRS)]
    return [*rows, ("other language", "nl", "The cat sleeps on the couch in our living room.")]


def search(folder, cut, settings):
    """What becomes of each document: cluster, kind, kept one, rule; by key."""
    rows = rows_of_all()
    folder.mkdir()
    parts = [
        write_part(folder / f"{number}.parquet", rows[start : start + cut], settings)
        for number, start in enumerate(range(0, len(rows), cut))
    ]
    summary = find_duplicates(parts, folder / "search", settings)
    names = {document_id("s", key): key for key, _, _ in rows}
    found = {}
    for number in range(len(parts)):
        for row, decision in read_decisions(folder / "search", number).items():
            key = rows[number * cut + row][0]
            cluster, kept = names[decision.cluster], names[decision.kept]
            found[key] = (cluster, decision.kind, kept, decision.rule)
    return summary, found


def cosines(minilm, texts):
    """By transformers alone, one text at a time."""
    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm)
    vectors = []
    with torch.inference_mode():
        for text in texts:
            encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
            vectors.append(model(**encoded).last_hidden_state[0].mean(0).double().numpy())
    unit = np.stack(vectors)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


def test_what_means_the_same_is_found_once_the_rest_is_done(minilm, settings, tmp_path):
    summary, found = search(tmp_path / "a", 100, settings)
    assert found == {
        "a0": ("a0", "semantic", "a0", None),
        "exact": ("a0", "semantic", "a0", EXACT_RULE),
        "b0": ("a0", "semantic", "a0", SEMANTIC_RULE),
        **{f"a{n}": (f"a{n}", "semantic", f"a{n}", None) for n in (1, 2, 3)},
        **{f"b{n}": (f"a{n}", "semantic", f"a{n}", SEMANTIC_RULE) for n in (1, 2, 3)},
        "long": ("long", "near", "long", None),
        "near": ("long", "near", "long", NEAR_RULE),
    }
    assert summary.removed == {EXACT_RULE: 1, NEAR_RULE: 1, SEMANTIC_RULE: 4}
    assert summary.clusters == 5
    rows = [row for row in rows_of_all() if row[0] not in ("exact", "near", "other language")]
    near = np.triu(cosines(minilm, [text for _, _, text in rows]) >= THRESHOLD, 1)
    assert {(rows[i][0], rows[j][0]) for i, j in np.argwhere(near)} == {
        (f"a{n}", f"b{n}") for n in range(4)
    }
    assert summary.related == 4


def test_cut_of_the_parts_and_rule_of_keeping(settings, tmp_path):
    _, whole = search(tmp_path / "a", 100, settings)
    summary, cut = search(tmp_path / "b", 4, settings)
    assert cut == whole
    longest = settings.model_copy(update={"keep": "longest"})
    _, found = search(tmp_path / "c", 5, longest)
    texts = {key: text for key, _, text in rows_of_all()}
    for number, (one, two) in enumerate(PAIRS):
        kept = f"a{number}" if len(one) >= len(two) else f"b{number}"
        assert found[f"a{number}"][2] == found[f"b{number}"][2] == kept
        assert {found[f"a{number}"][3], found[f"b{number}"][3]} == {None, SEMANTIC_RULE}
    assert found["near"][2] == "near"
    assert found["exact"][3] == EXACT_RULE
    assert len(texts["near"]) > len(texts["long"])
    # it goes on where it was
    again = find_duplicates(
        [Part(tmp_path / "b" / f"{n}.parquet", "s") for n in range(5)],
        tmp_path / "b" / "search",
        settings,
    )
    assert again == summary


def test_without_them_clusters_are_of_copies_alone(settings, tmp_path):
    plain = settings.model_copy(update={"semantic": None})
    summary, found = search(tmp_path / "a", 6, plain)
    assert summary.removed == {EXACT_RULE: 1, NEAR_RULE: 1}
    assert (summary.clusters, summary.related) == (2, None)
    assert found["a0"] == ("a0", "exact", "a0", None)
    assert found["near"] == ("long", "near", "long", NEAR_RULE)


@pytest.fixture
def recipe(minilm, tmp_path, monkeypatch):
    """Writes a recipe of these documents; gives the command that builds it."""
    monkeypatch.setenv("SOME_MODELS", str(minilm.parent))
    source = tmp_path / "in" / "a.jsonl"
    source.parent.mkdir()
    rows = [row for row in rows_of_all() if row[1] == "en"]
    source.write_text("".join(json.dumps({"id": k, "text": t}) + "\n" for k, _, t in rows))
    content = {
        "name": "test", "version": "1", "privacy": None,
        "sources": [{
            "id": "s", "files": [str(source)], "title": "T", "custodian": "C", "language": "en",
            "licence": "CC0-1.0", "consent_basis": "b", "jurisdiction": "EU", "region": "Europe",
        }],
    }  # fmt: skip

    def command(**semantic):
        duplicates = {"near": {"threshold": 0.7}, "semantic": semantic}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**content, "duplicates": duplicates}))
        return ["build", "--recipe", str(path), "--output", str(tmp_path / "out"), "--workers", "1"]

    return command


def test_a_build_leaves_them_out_and_says_so(recipe, tmp_path, capsys):
    built = recipe(model=f"${{SOME_MODELS}}/{'model'}", threshold=THRESHOLD)
    assert main(built) == 0, capsys.readouterr().err
    out = tmp_path / "out"
    document = json.loads((out / "corpus.json").read_text())
    rules = {EXACT_RULE: 1, NEAR_RULE: 1, SEMANTIC_RULE: 4}
    assert document["counts"]["s"]["rules"] == rules
    assert document["duplicates"]["related"] == 4
    assert document["encoder_fingerprint"]
    assert document["recipe"]["duplicates"]["semantic"]["model"] == "model"
    assert "torch" in document["versions"]
    filtered = pq.read_table(out / "filtered.parquet").to_pylist()
    assert Counter(row["cluster_kind"] for row in filtered) == {"semantic": 5, "near": 1}
    index = {row["id"]: row for row in pq.read_table(out / "index.parquet").to_pylist()}
    for row in filtered:
        assert index[row["detail"]]["cluster"] == row["cluster"]
        assert index[row["detail"]]["cluster_kind"] == row["cluster_kind"]
    assert main(["report", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["duplicates"]["kinds"] == {"near": 1, "semantic": 4}
    assert report["duplicates"]["left_out"] == rules


def test_what_is_missing_is_told_before_the_work(recipe, tmp_path, capsys, monkeypatch, minilm):
    assert main(recipe(model=str(tmp_path / "none"))) == 2
    assert "duplicates.semantic.model: no such folder" in capsys.readouterr().err
    assert main(recipe(model=str(minilm), max_length=100_000)) == 2
    assert "duplicates.semantic: out of range" in capsys.readouterr().err

    real = builtins.__import__

    def no_faiss(name, *rest):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest)

    encoder_of.cache_clear()
    monkeypatch.setattr(builtins, "__import__", no_faiss)
    assert main(recipe(model=str(minilm))) == 2
    said = capsys.readouterr().err
    assert "finding semantic duplicates needs the package faiss" in said
    assert "pip install 'headrace[faiss]'" in said
    assert not (tmp_path / "out").exists()
