"""Finding documents: filters against plain Python, formats, and what a question may not do."""

import csv
import io
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from headrace.cli import main
from headrace.corpus.catalogue.catalogue import Catalogue
from headrace.errors import CorpusError


def found(capsys, corpus, *options):
    assert main(["find", str(corpus.path), "--format", "json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], lambda d: True),
        (["--language", "sw"], lambda d: d.language == "sw"),
        (["--language", "SW", "zh"], lambda d: d.language in ("sw", "zh")),
        (["--language", "s"], lambda d: False),
        (["--language", "swh"], lambda d: d.language == "sw"),
        (["--language", "sw-ke"], lambda d: d.variety == "sw-KE"),
        (["--language", "und"], lambda d: d.language == "und"),
        (["--source", "web", "--language", "en"],
         lambda d: (d.source, d.language) == ("web", "en")),
        (["--licence", "cc-by-*"], lambda d: d.licence == "CC-BY-4.0"),
        (["--licence", "CC-BY-?.0"], lambda d: False),
        (["--domain", "web.example.org"], lambda d: "web.example.org" in d.url),
        (["--domain", "blog.news.example.org"], lambda d: "blog.news.example.org" in d.url),
        (["--domain", "ews.example.org"], lambda d: False),
        (["--where", "private['EMAIL'] > 0 -- mails"], lambda d: d.private_counts),
        (["--where", "quality['words'] > 60", "--source", "news"],
         lambda d: d.quality["words"] > 60 and d.source == "news"),
    ],
)  # fmt: skip
def test_filters_find_what_plain_python_finds(written_corpus, capsys, options, wanted):
    rows = found(capsys, written_corpus, *options)
    assert {row["id"] for row in rows} == {d.id for d in written_corpus.documents if wanted(d)}


def test_standard_error_has_the_count_and_nothing_else(written_corpus):
    """DuckDB's module tells of objects that are left when a process ends."""

    def said(*options):
        command = [sys.executable, "-m", "headrace.cli", "find", str(written_corpus.path), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    assert said("--language", "sw", "--limit", "2").startswith("60 documents, ")
    assert len(said("--format", "json").splitlines()) == 1
    assert said("--sql", "SELECT * FROM documents", "--format", "csv") == ""
    (line,) = said("--sql", "SELECT nothing FROM documents").splitlines()
    assert line.startswith("error: --sql: the question cannot be answered")


def test_a_cluster_is_found(written_corpus, capsys):
    first = written_corpus.documents[0]
    (row,) = found(capsys, written_corpus, "--cluster", first.cluster)
    assert row["id"] == first.id


def test_every_column_comes_out_as_it_went_in(written_corpus, capsys):
    rows = found(capsys, written_corpus, "--columns", "*")
    by_id = {row["id"]: row for row in rows}
    for document in written_corpus.documents:
        row = by_id[document.id]
        assert (row["title"], row["url"], row["language"]) == (
            document.title, document.url, document.language,
        )  # fmt: skip
        assert row["characters"] == len(document.text)
        assert row["quality"] == pytest.approx(document.quality)
        assert row["private"] == document.private_counts
        assert not {"file", "content_hash", "subject_keys"} & row.keys(), "not for publication"


def test_csv_and_parquet_hold_the_same_rows(written_corpus, capsys, tmp_path):
    columns = ["--columns", "id, characters, quality", "--language", "zh"]
    rows = found(capsys, written_corpus, *columns)
    output = tmp_path / "found"
    main(["find", str(written_corpus.path), *columns, "--format", "csv", "--output", str(output)])
    read = list(csv.DictReader(io.StringIO(output.read_text())))
    assert [(r["id"], int(r["characters"]), json.loads(r["quality"])) for r in read] == [
        (row["id"], row["characters"], row["quality"]) for row in rows
    ]
    command = ["find", str(written_corpus.path), *columns, "--format", "parquet"]
    assert main([*command, "--output", str(output)]) == 0
    table = pq.read_table(output)
    assert table.to_pylist(maps_as_pydicts="strict") == rows
    assert main(command) == 2
    assert "--output" in capsys.readouterr().err


def test_a_table_is_short_and_says_how_many_there_are(written_corpus, capsys):
    assert main(["find", str(written_corpus.path), "--language", "sw"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 22
    characters = sum(len(d.text) for d in written_corpus.of("sw"))
    assert f"60 documents, {characters:,} characters" in said.err


def test_sql_of_ones_own(written_corpus, capsys):
    sql = "SELECT source, rule, count(*) AS n FROM filtered GROUP BY ALL ORDER BY ALL;"
    rows = found(capsys, written_corpus, "--sql", sql, "--limit", "3")
    assert rows == [
        {"source": "news", "rule": "near duplicate", "n": 2},
        {"source": "news", "rule": "quality:words", "n": 2},
        {"source": "web", "rule": "near duplicate", "n": 3},
    ]
    sql = "SELECT s.region, count(*) AS n FROM quarantine q JOIN sources s ON q.source = s.id"
    rows = found(capsys, written_corpus, "--sql", f"{sql} GROUP BY ALL ORDER BY ALL")
    assert rows == [{"region": "Kenya", "n": 2}, {"region": "worldwide", "n": 3}]
    assert found(capsys, written_corpus, "--sql", "SELECT sum(1) AS s FROM documents") == [
        {"s": len(written_corpus.documents)}
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_parquet('{corpus}/index.parquet')",
        "SELECT * FROM glob('/*')",
        "COPY documents TO '{file}.csv'",
        "COPY (SELECT 1) TO '{file}'",
        "ATTACH '{file}.db' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "CREATE TABLE mine AS SELECT 1",
        "DROP VIEW documents",
        "DELETE FROM documents",
        "SELECT 1; DROP VIEW documents",
        "EXPORT DATABASE '{file}.d'",
        "PRAGMA enable_profiling",
        "SELECT * FROM duckdb_secrets()",
        "SELECT nothing FROM documents",
        "SELECT title::INTEGER FROM documents",
        "SELEKT",
        "",
    ],
)
def test_a_question_reads_the_tables_and_nothing_else(written_corpus, tmp_path, capsys, sql):
    file = tmp_path / "secret"
    file.write_text("the secret")
    question = sql.format(file=file, corpus=written_corpus.path)
    with Catalogue(str(written_corpus.path)) as catalogue:
        with pytest.raises(CorpusError) as caught:
            list(catalogue.ask(question, where="--sql"))
        assert "secret" not in str(caught.value).replace(str(file), "").replace("_secrets", "")
        assert catalogue.one("SELECT count(*) FROM documents") == len(written_corpus.documents)
    for options in (["--sql", question], ["--where", f"true) {question}"]):
        assert main(["find", str(written_corpus.path), *options]) == 2
        said = capsys.readouterr()
        assert "the secret" not in said.out + said.err
        assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert file.read_text() == "the secret"


def test_mistakes_are_told_at_once(written_corpus, capsys, tmp_path):
    corpus = str(written_corpus.path)
    options = ["--sql", "SELECT 1", "--language", "en", "--limit", "0", "--format", "parquet"]
    assert main(["find", corpus, *options]) == 2
    said = capsys.readouterr().err
    assert "not together with --sql" in said
    assert "--limit" in said
    assert "--output" in said
    assert main(["find", str(tmp_path)]) == 2
    assert "no corpus is in this folder" in capsys.readouterr().err


def test_damaged_tables_are_told(own_corpus, capsys):
    index = own_corpus.path / "index.parquet"
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2])
    assert main(["find", str(own_corpus.path)]) == 2
    assert "index.parquet: not a Parquet file" in capsys.readouterr().err
    pq.write_table(pq.read_table(io.BytesIO(whole)).drop_columns(["licence"]), index)
    assert main(["find", str(own_corpus.path)]) == 2
    assert "columns are missing (value: licence)" in capsys.readouterr().err
    index.unlink()
    assert main(["find", str(own_corpus.path)]) == 2
    assert "index.parquet: it is missing" in capsys.readouterr().err
    index.write_bytes(whole)
    quarantine = own_corpus.path / "quarantine.jsonl"
    quarantine.write_text(quarantine.read_text() + '{"torn')
    assert main(["find", str(own_corpus.path)]) == 2
    assert "quarantine.jsonl:6: not a JSON object" in capsys.readouterr().err


def test_a_store_is_asked_as_a_folder_is(written_corpus):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(written_corpus.path), "/corpora/river", recursive=True)
    with Catalogue("memory://corpora/river") as catalogue:
        assert catalogue.one("SELECT count(*) FROM documents") == len(written_corpus.documents)
    memory.rm("/corpora", recursive=True)
