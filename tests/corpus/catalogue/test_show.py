"""Documents as they are shown: text, spans, place, cluster."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.cli import main
from headrace.corpus.catalogue.catalogue import Catalogue
from headrace.corpus.catalogue.schema import INDEX_SCHEMA
from headrace.corpus.catalogue.show import Shown, show


def test_every_text_is_read_from_where_it_lies(written_corpus):
    some = written_corpus.documents[::-6]
    with Catalogue(str(written_corpus.path)) as catalogue:
        shown = show(catalogue, [document.id for document in some])
    assert [(one.row["id"], one.text) for one in shown] == [
        (document.id, document.text) for document in some
    ]
    assert all(one.metadata == {"speaker": "somebody"} for one in shown)


def test_the_page_of_a_document(written_corpus, capsys):
    document = next(d for d in written_corpus.documents if d.private)
    assert main(["show", str(written_corpus.path), document.id[:12].upper()]) == 0
    said = capsys.readouterr().out
    assert said.startswith(document.id + "\n")
    assert "Write to [<EMAIL> EMAIL] today." in said
    assert "river/en/en-000000.tar, sample 3\n" in said
    assert "custodian          The village" in said
    assert "private            EMAIL 1" in said
    first = written_corpus.documents[0]
    assert main(["show", str(written_corpus.path), first.id]) == 0
    said = capsys.readouterr().out
    copy = written_corpus.filtered[0][0]
    assert f"cluster {first.cluster} of 2 documents:" in said
    assert f"{copy.id}  news  en/0900.txt  (left out: near duplicate)" in said


def test_json_holds_all_of_it(written_corpus, capsys):
    document = next(d for d in written_corpus.documents if d.private)
    assert main(["show", str(written_corpus.path), document.id, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["text"] == document.text
    assert found["spans"] == [dict(span) for span in document.private]
    assert found["quality"] == pytest.approx(document.quality)


def test_long_texts_and_control_characters(own_corpus, capsys, monkeypatch):
    row = {"id": "0" * 32, "shard": "s", "position": 0, "cluster": None, "title": "a\x1b[31m"}
    long = Shown(row, "x\x07" * 3000, (), {}, "place", (), 1)
    monkeypatch.setattr("headrace.corpus.catalogue.show.show", lambda *_: [long])
    assert main(["show", str(own_corpus.path), "0" * 32]) == 0
    said = capsys.readouterr().out
    assert "2,000 more characters: --full" in said
    assert "\x07" not in said
    assert "\x1b" not in said


def test_spans_are_marked_once():
    span = {"type": "A", "start": 2, "end": 4}
    spans = [{"type": "C", "start": 6, "end": 99}, {"type": "B", "start": 3, "end": 5}, span]
    shown = Shown({}, "01234567", spans, {}, "", (), 1)
    assert shown.marked() == "01[23 A]4567"


def test_all_wrong_ids_are_told_at_once(written_corpus, capsys):
    left_out = written_corpus.filtered[1][0].id
    assert main(["show", str(written_corpus.path), "abc", "f" * 32, left_out, "%%%%%%"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert "at least 6 are needed" in said[0]
    assert "no document has this id" in said[1]
    assert "a rule has left it out: quality:words" in said[2]
    assert "no document has this id" in said[3]


def test_an_index_that_does_not_fit_is_told(own_corpus, capsys):
    rows = pq.read_table(own_corpus.path / "index.parquet").to_pylist()
    rows[0]["position"], rows[1]["position"] = rows[1]["position"], rows[0]["position"]
    rows[2]["shard"] = "gone-000000.tar"
    rows[3]["position"] = 25
    table = pa.Table.from_pylist(rows, INDEX_SCHEMA)
    pq.write_table(table, own_corpus.path / "index.parquet")
    for number, words in ((0, "another document"), (2, "does not have"), (3, "fewer samples")):
        assert main(["show", str(own_corpus.path), rows[number]["id"]]) == 2
        assert words in capsys.readouterr().err


def test_damaged_bytes_are_not_shown(own_corpus, capsys):
    shard = own_corpus.path / "en/en-000000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    assert main(["show", str(own_corpus.path), own_corpus.documents[0].id]) == 2
    assert "en-000000.tar" in capsys.readouterr().err


def test_a_prefix_of_two_is_not_enough(own_corpus, capsys):
    table = pq.read_table(own_corpus.path / "index.parquet")
    rows = table.to_pylist()
    rows[1]["id"] = rows[0]["id"][:-1] + "x"
    pq.write_table(pa.Table.from_pylist(rows, INDEX_SCHEMA), own_corpus.path / "index.parquet")
    assert main(["show", str(own_corpus.path), rows[0]["id"][:10]]) == 2
    assert "several documents" in capsys.readouterr().err
