"""What of a corpus may be published says nothing of the machine and of people."""

import json
import os

import pyarrow.parquet as pq

from headrace.corpus.documents import content_hash
from headrace.corpus.privacy import make_key, subject_keys

PERSON = "anna.keller@firma.de"
PRIVATE = {"origins.parquet", "quarantine.jsonl", "takedowns.jsonl"}


def contents(path):
    """The bytes of a file, and the values of a table."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield json.dumps(pq.read_table(path).to_pylist(), default=str).encode()


def test_what_is_for_publication_says_nothing_of_the_machine_and_of_people(corpus, monkeypatch):
    monkeypatch.setenv("OWN_FOLDER", str(corpus.folder))
    key_file = corpus.folder / "secrets" / "key"
    key_file.parent.mkdir()
    key = make_key(key_file)
    text = f"Please write to {PERSON} about the old mill in our village."
    corpus.jsonl("a.jsonl", [{"id": "a", "text": text, "license": "CC-BY-NC-4.0"}])
    corpus.jsonl("b.jsonl", [{"id": "b", "text": f"{text} Soon."}, "{broken"])
    by_name = {"id": "s", "files": [str(corpus.folder / "in" / "a.jsonl")]}
    by_variable = {"id": "v", "files": ["${OWN_FOLDER}/in/b.jsonl"], "language": "en"}
    recipe = corpus.recipe(
        by_name,
        by_variable,
        privacy={"mode": "hash", "key": str(key_file)},
        licences={"deny": ["non-commercial"]},
    )
    document = corpus.build(recipe)
    assert document["counts"]["s"]["filtered"] == 1
    assert document["sources"][0]["files"] == ["a.jsonl"]
    assert document["recipe"]["sources"][1]["files"] == by_variable["files"]
    assert document["recipe"]["privacy"]["key"] == "key"

    secret = [
        str(corpus.folder), os.uname().nodename, PERSON, content_hash(text), key_file.parent.name,
        content_hash(f"{text} Soon."), *subject_keys(PERSON, key),
    ]  # fmt: skip
    paths = [path for path in corpus.out.rglob("*") if path.is_file()]
    public = [path for path in paths if path.name not in PRIVATE and path.name[0] != "."]
    assert {path.name for path in public} >= {"corpus.json", "index.parquet", "shard-000000.tar"}
    for path in public:
        for content in contents(path):
            for word in secret:
                assert word.encode() not in content, (path, word)
    origins = pq.read_table(corpus.out / "origins.parquet").to_pylist()
    assert [row["file"].rpartition("/")[2] for row in origins] == ["b.jsonl", "a.jsonl"]
    assert all(row["file"].startswith(str(corpus.folder)) for row in origins)
    hashes = [content_hash(f"{text} Soon."), content_hash(text)]
    assert [row["content_hash"] for row in origins] == hashes
