"""Lines, columns and JSON lines: every line once, however a file is cut, and what is no record."""

import gzip
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media import Fields, Limits, MediaSettings, parts, read_records

SURROGATE = "half of a surrogate pair in the text"


def read(path, settings=None, **more):
    return list(read_records(str(path), settings or MediaSettings(), **more))


def cut(path, settings, size):
    ranges = parts(str(path), settings, size=size)
    found = [read(path, settings, start=start, end=end) for start, end in ranges]
    return ranges, [item for part in found for item in part]


TEXTS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), max_size=12), max_size=12
)


@given(
    lines=TEXTS,
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"]),
    size=st.integers(1, 60),
)
def test_any_cut_gives_every_line_once(lines, end, last, encoding, size):
    text = end.join(lines) + (end if last else "")
    data = text.encode(encoding)
    settings = MediaSettings(format="lines", encoding=encoding)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes(data)
        whole = read(path, settings)
        ranges, found = cut(path, settings, size)
    assert found == whole
    if data:
        assert len(ranges) == max(1, -(-len(data) // size))
        # Independent of the reader: what lies at each offset is the record's text.
        for record in whole:
            if isinstance(record, Record):
                raw = data[record.offset : record.offset + record.length].decode(encoding)
                assert raw.removesuffix("\r") in (record.text, "\ufeff" + record.text)
        expected = [line.removesuffix("\r") for line in text.split("\n")]
        expected[0] = expected[0].removeprefix("\ufeff")
        kept = [line for line in expected if line.strip()]
        assert [r.text for r in whole if isinstance(r, Record)] == kept


def test_keys_are_of_the_place_or_of_the_id(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "id": 7, "lang": "en"}\n\n{"text": "two", "m": {"u": "x"}}\n')
    settings = MediaSettings(fields=Fields(language="lang", url="m.u", metadata=("m",)))
    one, two = read(path, settings, key="folder/a.jsonl")
    assert (one.key, one.language, one.format) == ("folder/a.jsonl#7", "en", "json_lines")
    assert (two.key, two.url, two.metadata) == ("folder/a.jsonl#40", "x", {"m": {"u": "x"}})
    assert path.read_bytes()[two.offset : two.offset + two.length].startswith(b'{"text": "two"')


def test_columns_by_number(tmp_path):
    path = tmp_path / "ntrex.tsv"
    path.write_text("1\tdoc-a\tein Satz\n2\tdoc-b\n3\tdoc-c\tnoch einer\n")
    settings = MediaSettings(format="lines", fields=Fields(text=3, id=1, metadata=(2,)))
    first, bad, last = read(path, settings)
    assert (first.key, first.text, first.metadata) == ("ntrex.tsv#1", "ein Satz", {"2": "doc-a"})
    assert (bad.key, bad.reason) == ("ntrex.tsv#17", "unreadable")
    assert bad.detail == "nothing in column 3, which holds the text"
    assert last.text == "noch einer"


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b'{"text": "Secret name', "unreadable", "not JSON at character 9"),
        (b'["Secret"]', "unreadable", "not an object: list"),
        (b'{"body": "Secret"}', "unreadable", "nothing in field 'text', which holds the text"),
        (b'{"text": ["Secret"]}', "unreadable", "field 'text' is no text: list"),
        (b'{"text": "Secret \\ud800"}', "encoding", SURROGATE),
        (
            b'{"text": "Secret", "url": "\\udc00"}',
            "encoding",
            SURROGATE,
        ),
        (b'{"text": "Secret \\u0000"}', "encoding", "a NUL character in the text"),
        (b'{"text": "Secret \xff"}', "encoding", "byte 0xff at 17 is not utf-8"),
        (b'{"text": "  "}', "empty", "no text"),
        (b'{"text": "Secret", "id": ["x"]}', "unreadable", "field 'id' is no id: list"),
        (b'{"a": ' + b"[" * 100_000, "unreadable", "nested too deeply"),
        (b'{"text": "Secret", "n": ' + b"9" * 5000 + b"}", "unreadable", "ValueError"),
    ],
)
def test_a_bad_line_is_a_reject_between_good_ones(tmp_path, line, reason, detail):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "before"}\n' + line + b'\n{"text": "behind"}\n')
    before, bad, behind = read(path)
    assert (before.text, behind.text) == ("before", "behind")
    assert bad == Reject("a.jsonl#19", reason, detail, 19)


def test_a_long_line_is_refused_and_reading_goes_on(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\n" + "x" * 3_000_000 + "\nthree\n")
    settings = MediaSettings(format="lines", limits=Limits(document_bytes=1000))
    one, long, three = read(path, settings)
    assert (one.text, three.text) == ("one", "three")
    assert long == Reject("a.txt#4", "too large", "a line of 3000000 bytes, more than 1000", 4)
    assert cut(path, settings, 700_000)[1] == [one, long, three]


def test_packed_lines_are_one_part(tmp_path):
    lines = [json.dumps({"text": f"text {n}"}) for n in range(100)]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert parts(str(path), size=10) == [(0, None)]
    found = read(path)
    assert [record.text for record in found] == [f"text {n}" for n in range(100)]
    assert found[1].offset == len(lines[0]) + 1


@pytest.mark.parametrize("keep", [15, 60, 200])
def test_a_truncated_gzip_file_gives_what_is_intact_and_a_reject(tmp_path, keep):
    lines = "".join(json.dumps({"text": f"text {n * n}"}) + "\n" for n in range(100))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode())[:keep])
    found = read(path)
    assert found[-1] == Reject(
        "a.jsonl.gz", "unreadable", "the gzip data are damaged or end too early"
    )
