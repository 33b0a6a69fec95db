"""Raw input of removed documents: what is deleted, blanked, and named since it could not be."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.corpus.catalogue.schema import ORIGINS_SCHEMA
from headrace.corpus.documents import Record, Reject
from headrace.corpus.media import Fields, MediaSettings, read_records
from headrace.corpus.takedown.blank import blank_records, blank_rows
from headrace.corpus.takedown.places import open_place
from headrace.corpus.takedown.raw import RawOutcome, plan_raw, purge_raw
from headrace.corpus.takedown.remove import take_down
from headrace.corpus.takedown.request import Match, make_request, resolve
from headrace.errors import CorpusError
from tests.corpus.takedown.built import (
    NUMBERS,
    TWIN,
    BuiltCorpus,
    Snapshot,
    contents,
    make_files,
)
from tests.corpus.takedown.conftest import LANGUAGES, PERSON, RARE_HOST
from tests.killed import killed_at
from tests.shards.conftest import serving


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("built")
    made = make_files(folder / "own")
    made.build(made.folder)
    found = Snapshot(made, folder / "copy")
    made.root.rename(found.copy)
    return found


@pytest.fixture
def built(snapshot: Snapshot) -> BuiltCorpus:
    """The corpus and its files as they were built."""
    return snapshot.restored()


def removed_of(built: BuiltCorpus) -> set[str]:
    """The documents of the person and of the site, and the near-duplicates of these."""
    twins = {built.one("books", language, TWIN).id for language in LANGUAGES}
    return built.of_person() | built.of_host() | twins


def assert_purged(built: BuiltCorpus, ids: set[str]) -> None:
    """Their words are nowhere, in no file of the corpus and of the inputs."""
    paths = [path for path in sorted(built.root.rglob("*")) if path.is_file()]
    for path, content in contents(paths):
        assert PERSON.encode() not in content, path
        for mark in built.marks(ids):
            assert mark not in content, path


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_files_are_deleted_and_records_blanked_and_a_new_build_has_all_others(
    built: BuiltCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    index = pq.read_table(built.folder / "index.parquet").to_pylist()
    sizes = {path: path.stat().st_size for path in built.inputs.rglob("*.csv")}
    (built.inputs / "notes" / "de.1.txt").chmod(0o640)
    (built.inputs / "books" / "de.csv").chmod(0o600)
    gone = removed_of(built)
    options = ["--subject", PERSON, "--domain", RARE_HOST, "--stage", "overwrite", "--json"]
    assert built.remove(*options, "--raw-inputs") == 0
    planned = {file["file"]: file for file in printed(capsys)["raw_inputs"]}
    assert planned[str(built.inputs / "notes" / "de.1.txt")]["action"] == "delete"
    assert planned[str(built.inputs / "web" / "en.jsonl.gz")] == {
        "file": str(built.inputs / "web" / "en.jsonl.gz"), "documents": 2, "action": "blank",
    }  # fmt: skip
    assert built.remove(*options, "--raw-inputs", "--yes") == 0
    outcome = printed(capsys)["outcome"]["raw"]
    assert outcome == {"files": 2, "records": len(gone) - 2, "left": []}
    assert_purged(built, gone)
    assert {path: path.stat().st_size for path in built.inputs.rglob("*.csv")} == sizes
    assert (built.inputs / "books" / "de.csv").stat().st_mode & 0o777 == 0o600

    built.build(built.root / "again")
    again = pq.read_table(built.root / "again" / "index.parquet").to_pylist()
    assert {row["id"] for row in again} == {row["id"] for row in index} - gone
    reasons = [json.loads(line) for line in (built.root / "again" / "quarantine.jsonl").open()]
    assert {row["source"] for row in reasons} == {"letters"}, "rows of Parquet stay, without values"
    assert len(reasons) == 2


def test_without_the_option_raw_input_stays_and_is_named(
    built: BuiltCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in built.inputs.rglob("*") if path.is_file()}
    for options in ([], ["--yes"]):
        assert built.remove("--domain", RARE_HOST, "--no-duplicates", *options) == 0
        shown = capsys.readouterr().out
        assert "raw input stays, in 2 files" in shown
        assert str(built.inputs / "web" / "de.jsonl.gz") in shown
    assert {path: path.read_bytes() for path in before} == before


def test_what_could_not_be_done_is_named_and_the_rest_is_done(
    built: BuiltCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    notes, books = built.inputs / "notes", built.inputs / "books"
    os.link(notes / "de.1.txt", built.root / "backup")
    (notes / "en.1.txt").rename(built.root / "moved.txt")
    edited = books / "en.csv"
    mark = built.one("books", "en", 5).mark
    edited.write_text(edited.read_text().replace(f'"{mark}', f'"again {mark}'))
    assert built.remove("--subject", PERSON, "--raw-inputs", "--json", "--yes") == 0
    left = {Path(one["file"]).name: one for one in printed(capsys)["outcome"]["raw"]["left"]}
    assert left.keys() == {"de.1.txt", "en.1.txt", "en.csv"}
    assert "hard link" in left["de.1.txt"]["reason"]
    assert "no such file" in left["en.1.txt"]["reason"]
    assert "not what the build has read" in left["en.csv"]["reason"]
    assert all(one["documents"] == 1 and one["remedy"] for one in left.values())
    assert not (notes / "de.1.txt").exists()
    assert mark in edited.read_text()
    assert built.one("books", "de", 5).mark not in (books / "de.csv").read_text()
    (line,) = [json.loads(text) for text in (built.folder / "takedowns.jsonl").open()][1:]
    assert line["raw"] == {"files": 1, "records": 3, "left": 3}


def test_a_link_to_a_file_goes_with_the_file(built: BuiltCorpus) -> None:
    note, elsewhere = built.inputs / "notes" / "de.1.txt", built.root / "elsewhere"
    note.rename(elsewhere)
    note.symlink_to(elsewhere)
    book, other = built.inputs / "books" / "de.csv", built.root / "other"
    book.rename(other)
    book.symlink_to(other)
    assert built.remove("--subject", PERSON, "--raw-inputs", "--yes") == 0
    assert not os.path.lexists(note)
    assert not elsewhere.exists()
    assert book.is_symlink()
    assert PERSON not in other.read_text()


def test_all_files_of_a_source_go_but_those_that_another_one_reads(
    built: BuiltCorpus, capsys: pytest.CaptureFixture[str]
) -> None:
    place = open_place(str(built.folder))
    request = make_request("source", "letters")
    match = resolve(place, [request], clusters=False)
    shared = str(built.inputs / "letters" / "de.parquet")
    line = {"key": "x", "source": "web", "file": shared, "reason": "unreadable"}
    with (built.folder / "quarantine.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
        unread = {**line, "source": "letters", "file": str(built.inputs / "letters" / "torn")}
        file.write(json.dumps(unread) + "\n")
    plan = {Path(file.url).name: file for file in plan_raw(place, match, [request])}
    assert {name: file.action for name, file in plan.items()} == {
        "de.parquet": "blank", "en.parquet": "delete", "torn": "delete",
    }  # fmt: skip
    assert built.remove("--source", "letters", "--no-duplicates", "--raw-inputs", "--yes") == 0
    shown = capsys.readouterr().out
    assert f"raw input: 1 file deleted, {NUMBERS['letters']} documents blanked" in shown
    assert "torn: 0 documents: there is no such file" in shown
    assert not (built.inputs / "letters" / "en.parquet").exists()
    assert set(pq.read_table(shared)["text"].to_pylist()) == {None}


def test_formats_and_places_that_cannot_be_changed_are_left(
    built: BuiltCorpus, tmp_path: Path
) -> None:
    pytest.importorskip("aiohttp")
    place = open_place(str(built.folder))
    assert place.corpus is not None
    (tmp_path / "a.txt").write_text("text")
    with serving(tmp_path) as web:
        rows = [
            {"id": str(number) * 32, "source": "web", "file": file, "format": format}
            for number, (file, format) in enumerate(
                (
                    (f"{web.url}/a.txt", "text"),
                    (str(tmp_path / "a.txt"), "warc"),
                    (str(tmp_path / "a.txt.b"), "gone plug-in"),
                )
            )
        ]
        path = built.folder / "origins.parquet"
        pq.write_table(pa.Table.from_pylist(rows, ORIGINS_SCHEMA), path)
        match = Match(filtered={str(row["id"]) for row in rows})
        outcome = purge_raw(plan_raw(place, match, []), place.corpus)
    assert (outcome.files, outcome.records, len(outcome.left)) == (0, 0, 3)
    assert [one.documents for one in outcome.left] == [1, 1, 1]
    reasons = " ".join(one.reason for one in outcome.left)
    assert "cannot be blanked in this format: warc" in reasons
    assert "no reader of this format" in reasons
    assert (tmp_path / "a.txt").exists()
    source = open_place(str(built.folder / "de"))
    with pytest.raises(CorpusError, match="does not know its raw input"):
        plan_raw(source, Match(), [])


def changes_raw_input(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a file of the inputs is renamed or deleted."""
    return event in ("os.rename", "os.remove") and "/in/" in str(arguments[0])


def test_a_takedown_that_is_killed_purges_raw_input_when_it_is_given_again(
    snapshot: Snapshot,
) -> None:
    for event in (1, 3, 7):
        built = snapshot.restored()
        request = make_request("subject", PERSON, built.key)

        def work(request: Any = request, built: BuiltCorpus = built) -> RawOutcome | None:
            place = open_place(str(built.folder))
            match = resolve(place, [request])
            plan = plan_raw(place, match, [request])
            return take_down(place, match, [request], stage="overwrite", key=built.key,
                             raw_inputs=plan).raw  # fmt: skip

        assert killed_at(event, work, changes_raw_input)
        assert work() is not None
        assert_purged(built, built.of_person())
        assert not list(built.inputs.rglob(".*"))


WORDS = st.text(st.sampled_from("abcäж字"), min_size=1, max_size=9)
PACKINGS = {"": lambda data: data, ".gz": gzip.compress, ".bz2": bz2.compress}


def written(format: str, texts: list[str], end: str) -> str:
    """A file of this format, with an id for each text."""
    if format == "lines":
        return "".join(f"{text}{end}" for text in texts)
    if format == "json_lines":
        rows = (json.dumps({"id": n, "text": t}, ensure_ascii=False) for n, t in enumerate(texts))
        return "".join(f"{row}{end}" for row in rows)
    if format == "conll":
        return "".join(f"# id s{n}{end}{t} O{end}und O{end}{end}" for n, t in enumerate(texts))
    rows = [["id", "text"], *([str(n), t] for n, t in enumerate(texts))]
    if format == "tsv":
        return "".join("\t".join(row) + end for row in rows)
    file = io.StringIO()
    quoted = ([n, f'{t}, "and"{end}more'] for n, t in rows[1:])
    csv.writer(file, lineterminator=end).writerows([rows[0], *quoted])
    return file.getvalue()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_blanked_all_other_records_stay_what_they_were(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    format = data.draw(st.sampled_from(["lines", "json_lines", "tsv", "csv", "conll"]))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]))
    if format == "conll" and encoding == "utf-16":
        encoding = "utf-8"
    packing = data.draw(st.sampled_from(sorted(PACKINGS)))
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    texts = data.draw(st.lists(WORDS, min_size=2, max_size=6))
    texts = [f"{text}x{number}" for number, text in enumerate(texts)]
    gone = set(data.draw(st.lists(st.sampled_from(texts), min_size=1)))
    path = tmp_path_factory.mktemp("raw") / f"a.file{packing}"
    plain = written(format, texts, end).encode(encoding, "replace")
    path.write_bytes(PACKINGS[packing](plain))
    fields = Fields() if format != "lines" else Fields(id=None)
    how = MediaSettings(format=format, fields=fields, encoding=encoding.partition("-sig")[0])

    def records() -> list[Record | Reject]:
        return list(read_records(str(path), how))

    before = [one for one in records() if isinstance(one, Record)]
    assert len(before) == len(texts)
    chosen = [one for one, text in zip(before, texts, strict=True) if text in gone]
    blank_records(str(path), how, chosen)
    assert records() == [one for one in before if one not in chosen]
    left = unpacked(path)
    assert len(left) == len(plain)
    for one in gone:
        bare = one.encode("utf-16-le" if encoding == "utf-16" else encoding.partition("-sig")[0])
        assert bare not in left
    assert [path.name for path in path.parent.iterdir()] == [path.name]


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix, bytes)(data)


def tables() -> Iterator[pa.Table]:
    texts = [f"value{number}q" for number in range(10)]
    kinds = pa.array(texts).dictionary_encode()
    columns = {
        "text": pa.array(texts),
        "kind": kinds,
        "tags": pa.array([[text] for text in texts]),
        "meta": pa.array([{"url": text, "n": 1} for text in texts]),
        "map": pa.array([[(text, 1.0)] for text in texts], pa.map_(pa.string(), pa.float64())),
        "number": pa.array(range(10)),
    }
    yield pa.table(columns)
    fields = [pa.field("text", pa.string(), nullable=False), pa.field("n", pa.int64())]
    yield pa.table([pa.array(texts), pa.array(range(10))], pa.schema(fields, {"who": "we"}))


@pytest.mark.parametrize("number", [0, 1])
def test_rows_of_parquet_have_no_values_and_all_others_have_theirs(
    tmp_path: Path, number: int
) -> None:
    table = list(tables())[number]
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=4, compression="none")
    blank_rows(str(path), [3, 4, 9])
    after = pq.read_table(path).to_pylist()
    for row, (old, new) in enumerate(zip(table.to_pylist(), after, strict=True)):
        assert new == (dict.fromkeys(old) if row in (3, 4, 9) else old)
    content = path.read_bytes()
    assert b"value5q" in content
    assert not any(f"value{row}q".encode() in content for row in (3, 4, 9))
    assert pq.ParquetFile(path).metadata.num_row_groups == 3
