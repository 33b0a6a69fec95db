"""Original bytes: kept where a recipe says so and nowhere else, given back, taken down."""

import gzip
import io
import tarfile

import pyarrow.parquet as pq
import pytest
from docx import Document

from headrace.cli import main
from headrace.corpus.privacy import make_key
from headrace.errors import ConfigError
from headrace.shards import ShardReader

PERSON = "ada.fischer@example.com"
HEADER = "WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:one>\r\n"


def warc(page: bytes) -> bytes:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
    url = "WARC-Target-URI: https://example.org/a\r\nContent-Type: application/http\r\n"
    return f"{HEADER}{url}Content-Length: {len(answer)}\r\n\r\n".encode() + answer + b"\r\n\r\n"


@pytest.fixture
def sources(corpus):
    """Sources of several formats, and the original of each document by its key."""
    folder = corpus.folder / "in"
    folder.mkdir()
    originals: dict[str, bytes | None] = {}
    rows = [
        f'{{"id": "n{number}", "text": "{corpus.sentence(number)}, {PERSON}"}}'.encode()
        for number in range(12)
    ]
    lines = b"\n".join([rows[0], b"", *rows[1:], b""])
    (folder / "lines.jsonl").write_bytes(lines)
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(lines.replace(b'"n', b'"p')))
    for number, row in enumerate(rows):
        originals[f"lines.jsonl#n{number}"] = row
        originals[f"packed.jsonl.gz#p{number}"] = row.replace(b'"n', b'"p')
    document = Document()
    document.core_properties.author = "Grace Author"
    document.add_paragraph(f"{corpus.sentence(20)} {corpus.sentence(21)}")
    document.save(str(folder / "letter.docx"))
    latin = f"{corpus.sentence(30)} déjà vu à Genève, {corpus.sentence(31)}".encode("latin-1")
    (folder / "old.txt").write_bytes(latin)
    for name in ("letter.docx", "old.txt"):
        originals[name] = (folder / name).read_bytes()
    body = f"<html><body><article><p>{corpus.sentence(40, 60)}</p></article></body></html>"
    (folder / "crawl.warc").write_bytes(warc(body.encode()))
    originals["crawl.warc#one"] = body.encode()
    plain = corpus.folder / "other"
    plain.mkdir()
    (plain / "plain.txt").write_text(corpus.sentence(50))
    originals["plain.txt"] = None
    return [
        {"id": "kept", "files": [f"{folder}/*"], "keep_original": True, "language": "en"},
        {"id": "plain", "files": [f"{plain}/*"], "language": "en"},
    ], originals


def test_each_document_has_the_bytes_it_was_read_from(corpus, sources, capsysbinary):
    recipe, originals = sources
    document = corpus.build(corpus.recipe(*recipe, limits={"part": "1 kB"}))
    warning = "the original bytes of kept are kept, with the private information in them"
    assert warning in document["warnings"]
    index = pq.read_table(corpus.out / "index.parquet").to_pylist()
    assert {row["key"] for row in index} == originals.keys()
    samples = {sample.key: sample for sample in ShardReader(str(corpus.out / "en"))}
    capsysbinary.readouterr()
    for row in index:
        wanted = originals[row["key"]]
        assert samples[row["id"]].fields["orig"] == (wanted or b""), row["key"]
        assert row["original_bytes"] == (None if wanted is None else len(wanted))
        command = ["show", str(corpus.out), row["id"], "--original"]
        assert main([*command, "-"]) == (2 if wanted is None else 0)
        said = capsysbinary.readouterr()
        assert said.out == (wanted or b"")
        if wanted is None:
            assert b"no original of the document is kept" in said.err
        else:
            file = corpus.folder / "given back"
            assert main([*command, str(file)]) == 0
            assert file.read_bytes() == wanted
    ids = [row["id"] for row in index[:2]]
    assert main(["show", str(corpus.out), *ids, "--original", "-"]) == 2
    assert b"--original: takes one document" in capsysbinary.readouterr().err


def test_nothing_is_kept_that_was_not_asked_for(corpus, sources):
    recipe, _ = sources
    corpus.build(corpus.recipe(*({**source, "keep_original": False} for source in recipe)))
    assert all(set(sample.fields) == {"txt", "json"} for sample in ShardReader(f"{corpus.out}/en"))
    assert set(pq.read_table(corpus.out / "index.parquet")["original_bytes"].to_pylist()) == {None}
    assert all(b"Grace Author" not in unpacked(path) for path in files(corpus.out))


@pytest.mark.parametrize("mode", ["mask", "hash", "pseudonym", "drop"])
def test_raw_bytes_beside_clean_texts_must_be_meant(corpus, sources, mode):
    recipe, _ = sources
    key = corpus.folder / "key"
    make_key(key)
    privacy = {"mode": mode, "key": str(key)}
    with pytest.raises(ConfigError) as caught:
        corpus.build(corpus.recipe(*recipe, privacy=privacy))
    (problem,) = caught.value.problems
    assert problem.where == "sources.0.keep_original"
    assert "raw_originals: true" in problem.remedy
    meant = {**privacy, "raw_originals": True}
    assert corpus.build(corpus.recipe(*recipe, privacy=meant))["counts"]["kept"]["read"] == 27


def test_rows_of_parquet_have_no_original(corpus):
    path = corpus.folder / "rows.parquet"
    pq.write_table(pq_table(corpus), path)
    source = {"id": "s", "files": [str(path)], "keep_original": True}
    with pytest.raises(ConfigError, match="a row of a Parquet file has no bytes of its own"):
        corpus.build(corpus.recipe({**source, "format": "parquet"}))
    document = corpus.build(corpus.recipe(source))
    assert "3 documents of s have no bytes of their own" in document["warnings"]
    assert set(pq.read_table(corpus.out / "index.parquet")["original_bytes"].to_pylist()) == {None}


def pq_table(corpus):
    import pyarrow as pa

    return pa.table({"text": [corpus.sentence(number) for number in range(3)]})


def files(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def unpacked(path) -> bytes:
    """The bytes of a file, and what packed files inside of a tar hold."""
    data = path.read_bytes()
    if path.suffix != ".tar":
        return data
    members = []
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            content = tar.extractfile(member).read()
            members.append(content)
    return data + b"".join(members)


@pytest.mark.parametrize("stage", ["overwrite", "compact"])
def test_a_takedown_takes_the_originals_too(corpus, sources, capsysbinary, stage):
    recipe, originals = sources
    key = corpus.folder / "key"
    make_key(key)
    privacy = {"mode": "pseudonym", "key": str(key), "raw_originals": True}
    corpus.build(corpus.recipe(*recipe, privacy=privacy))
    assert any(PERSON.encode() in unpacked(path) for path in files(corpus.out))
    index = pq.read_table(corpus.out / "index.parquet").to_pylist()
    origins = pq.read_table(corpus.out / "origins.parquet").to_pylist()
    named = {row["id"] for row in origins if row["subject_keys"]}
    gone = {row["id"]: row["original_bytes"] for row in index if row["id"] in named}
    assert len(gone) == 24
    command = ["remove", str(corpus.out), "--subject", PERSON, "--key", str(key), "--yes"]

    assert main(command) == 0
    assert main(["show", str(corpus.out), next(iter(gone)), "--original", "-"]) == 2
    said = capsysbinary.readouterr()
    assert b"has been removed" in said.err
    assert PERSON.encode() not in said.out

    assert main([*command, "--stage", stage]) == 0
    for path in files(corpus.out):
        assert PERSON.encode() not in unpacked(path), path
    left = {row["key"] for row in index if row["id"] not in gone}
    reader = ShardReader(str(corpus.out / "en"))
    assert {sample.metadata["key"]: sample.fields["orig"] for sample in reader} == {
        name: originals[name] or b"" for name in left
    }
    if stage == "overwrite":
        with tarfile.open(next((corpus.out / "en").glob("*.tar"))) as tar:
            zeros = {m.name: tar.extractfile(m).read() for m in tar if m.name.endswith(".orig")}
        for id_, size in gone.items():
            assert zeros[f"{id_}.orig"] == bytes(size)
