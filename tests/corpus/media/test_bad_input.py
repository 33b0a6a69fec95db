"""Files that are damaged, hostile, locked or empty end as a Reject with a reason, nothing else."""

import gzip
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media import Limits, MediaSettings, formats, parts
from headrace.corpus.media.text import TextReader
from headrace.errors import CorpusError

DATA = os.environ.get("HEADRACE_DATA")


def zipped(members, **more):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


EPUB = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="a.opf"/></rootfiles></container>',
    "a.opf": '<package xmlns="http://www.idpf.org/2007/opf"><manifest>'
    '<item id="x" href="x.xhtml" media-type="application/xhtml+xml"/></manifest>'
    '<spine><itemref idref="x"/></spine></package>',
    "x.xhtml": "<html><body><p>Secret text</p></body></html>",
}
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "Secret">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)
DRM = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
    'xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptedData><e:CipherData>'
    '<e:CipherReference URI="x.xhtml"/></e:CipherData></e:EncryptedData></encryption>'
)
ODT = {"mimetype": "application/vnd.oasis.opendocument.text"}
CASES = {
    "empty.txt": (b"", "empty", "a file of no bytes"),
    "empty.pdf": (b"", "empty", "a file of no bytes"),
    "packed_nothing.txt.gz": (gzip.compress(b""), "empty", "a file of no bytes"),
    "blank.txt": (b" \n\t\n", "empty", "no text"),
    "nul.txt": (b"Secret\0" * 40, "encoding", "NUL"),
    "noise.txt": (bytes(range(256)) * 20, "encoding", "NUL|likely"),
    "cut.pdf": (b"%PDF-1.7\nSecret", "unreadable", "a damaged or truncated PDF"),
    "cut.png": (b"\x89PNG\r\n\x1a\nSecret", "not supported", "not switched on"),
    "old.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 99, "not supported", "before 2007"),
    "a.pptx": (zipped({"ppt/presentation.xml": "x"}), "not supported", "PPTX"),
    "a.zip": (zipped({"a.txt": "Secret"}), "not supported", "a zip file"),
    "a.xyz": (b"Secret", "not supported", "neither"),
    "a.parquet": (b"PAR1" + b"Secret" * 40, "unreadable", "ArrowInvalid"),
    "cut.docx": (zipped(EPUB)[:200], "unreadable", "zip"),
    "cut.warc": (b"WARC/1.0\r\nSecret", None, None),
    "drm.epub": (zipped({**EPUB, "META-INF/encryption.xml": DRM}), "encrypted", "digital rights"),
    "hollow.epub": (zipped(dict(list(EPUB.items())[:3])), "unreadable", "missing"),
    "bomb.epub": (zipped({**EPUB, "x.xhtml": b"a" * (20 << 20)}), "too large", "100 times"),
    "laughs.epub": (zipped({**EPUB, "a.opf": LAUGHS + EPUB["a.opf"][:-10] + "&i;</package>"}),
                    None, None),
    "deep.odt": (zipped({**ODT, "content.xml": "<a>" * 5000 + "</a>" * 5000}), "unreadable",
                 "not well-formed XML"),
    "locked.odt": (zipped({**ODT, "META-INF/manifest.xml": "<x encryption-data=''/>"}),
                   "encrypted", "password"),
    "deep.html": (b"<div>" * 100_000 + b"Secret", "unreadable", "nested deeper than 1000"),
    "wide.html": (b"<p title='" + b"x" * (40 << 20) + b"'>Secret", "too large", "bytes"),
    "bomb.txt.gz": (gzip.compress(b"a" * (40 << 20)), "too large", "100 times"),
    "bomb.txt.zst": (pa.compress(b"a" * (40 << 20), "zstd", asbytes=True), "too large",
                     "100 times"),
    "cut.txt.zst": (pa.compress(os.urandom(5000), "zstd", asbytes=True)[:900], "unreadable",
                    "damaged"),
    "headless.eml": (b"\r\nSecret", "unreadable", "no headers"),
    "pgp.eml": (b"Subject: x\r\nContent-Type: multipart/encrypted; boundary=b\r\n\r\n--b--",
                "encrypted", "message"),
    "multi.eml": (b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
                           for n in range(300)), None, None),
    "charset.eml": (b"Subject: x\r\nContent-Type: text/plain; charset=non\r\n\r\nHi", "ok", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_a_reject_with_its_reason(tmp_path, read, name):
    data, reason, detail = CASES[name]
    path = tmp_path / name
    path.write_bytes(data)
    found = read(path, key=f"folder/{name}")
    if reason == "ok":
        assert isinstance(found[0], Record)
        return
    assert found or name == "cut.warc"
    for item in found:
        assert isinstance(item, Reject)
        assert item.key == f"folder/{name}"
        assert "Secret" not in repr(item)
        if reason is not None:
            assert item.reason == reason
            assert re.search(detail, item.detail)


def test_a_password_is_told_from_damage(tmp_path, read):
    import pypdfium2 as pdfium

    document = pdfium.PdfDocument.new()
    document.new_page(200, 200)
    plain = io.BytesIO()
    document.save(plain)
    # The standard security handler with a key of no known password, in place of the empty trailer.
    data = plain.getvalue().replace(
        b"/Root",
        b"/Encrypt << /Filter /Standard /V 1 /R 2 /O <" + b"41" * 32 + b"> /U <" + b"42" * 32
        + b"> /P -4 >> /ID [<00><00>] /Root",
        1,
    )  # fmt: skip
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    (bad,) = read(path)
    assert (bad.reason, bad.detail) == ("encrypted", "a PDF with a password")
    path.write_bytes(plain.getvalue())
    assert read(path)[0].reason == "empty"


def test_pages_that_refer_to_themselves_end(tmp_path, read):
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 9999999 >>",
        b"<< /Type /Page /Parent 3 0 R /Contents 3 0 R >>",
    ]
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"xref\n0 4\n0000000000 65535 f \n%strailer\n<< /Size 4 /Root 1 0 R >>\n"
    end += b"startxref\n%d\n%%%%EOF"
    path = tmp_path / "a.pdf"
    path.write_bytes(data + end % (table, len(data)))
    assert all(isinstance(item, Reject) for item in read(path))


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@pytest.mark.skipif(DATA is None, reason="HEADRACE_DATA is not set")
def test_damaged_documents_never_raise(tmp_path_factory, read, data):
    names = ["lorem_ipsum.docx", "text_document_01.odt", "eng_spa_mult.epub", "habibi.pdf",
             "eng_spa_mult.rtf", "example_03.html", "eml_simple.eml"]  # fmt: skip
    name = data.draw(st.sampled_from(names))
    content = bytearray((Path(DATA) / "documents" / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content)
    found = read(path)
    assert len(found) == 1
    assert isinstance(found[0], (Record, Reject))


def test_a_missing_file_is_a_reject_and_an_unknown_format_a_mistake(tmp_path, read):
    (bad,) = read(tmp_path / "gone.txt")
    assert (bad.reason, bad.detail) == ("unreadable", "no such file")
    assert parts(str(tmp_path / "gone.txt")) == [(0, None)]
    with pytest.raises(CorpusError) as caught:
        read(tmp_path / "gone.txt", MediaSettings(format="docs"))
    assert "docx" in caught.value.problems[0].remedy
    assert "docx" in formats()


@pytest.mark.parametrize(("name", "single"), [("a.txt", True), ("a.jsonl", False)])
def test_a_file_that_changes_while_it_is_read(tmp_path, read, monkeypatch, name, single):
    path = tmp_path / name
    path.write_text('{"text": "one"}\n')
    from headrace.corpus.media.source_file import SourceFile

    method = "content" if single else "encoding"
    real = getattr(SourceFile, method)

    def and_written_to(self, *more):
        result = real(self, *more)
        path.write_text('{"text": "one"}\n{"text": "two"}\n')
        return result

    monkeypatch.setattr(SourceFile, method, and_written_to)
    found = read(path)
    assert found[-1] == Reject(name, "changed while read", "size or time of the file", 0)
    assert len(found) == (1 if single else 3)


def test_what_a_library_raises_is_told_by_its_type_alone(tmp_path, read, monkeypatch):
    class PanicException(BaseException):
        pass

    path = tmp_path / "a.txt"
    path.write_text("x")
    for error in (LookupError("Secret"), MemoryError("Secret"), PanicException("Secret")):

        def fail(self, file, error=error):
            raise error

        monkeypatch.setattr(TextReader, "read", fail)
        (bad,) = read(path)
        assert bad.reason == ("memory limit" if isinstance(error, MemoryError) else "unreadable")
        assert "Secret" not in repr(bad)
    monkeypatch.setattr(TextReader, "read", lambda self, file: exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        read(path)


_BOUNDED = """
import resource, sys
from headrace.corpus.media import Limits, MediaSettings, read_records
for name in sys.argv[1:]:
    list(read_records(name))  # what is imported at the first use is no part of the measure
before = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (before + (150 << 20),) * 2)
settings = MediaSettings(format="lines", limits=Limits(document_bytes=8 << 20, ratio=5000))
for name in sys.argv[1:]:
    for item in read_records(name + ".long" + (".gz" if name.endswith("gz") else ""), settings):
        print(type(item).__name__, item.offset, getattr(item, "reason", getattr(item, "text", "")))
"""


def test_a_line_of_hundreds_of_mb_takes_little_memory(tmp_path):
    warm, packed = tmp_path / "warm.txt", tmp_path / "warm.txt.gz"
    warm.write_text("x")
    packed.write_bytes(gzip.compress(b"x"))
    size = 300 << 20
    with (tmp_path / "warm.txt.long").open("wb") as file:
        file.write(b"one\n")
        file.truncate(4 + size)  # a hole: no disk is used
        file.seek(4 + size)
        file.write(b"\nthree\n")
    with (tmp_path / "warm.txt.gz.long.gz").open("wb") as file:
        file.write(gzip.compress(b"one\n"))
        file.write(gzip.compress(b"y" * (1 << 20)) * 200)
        file.write(gzip.compress(b"\nthree\n"))
    done = subprocess.run(
        [sys.executable, "-c", _BOUNDED, str(warm), str(packed)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "Record 0 one",
        "Reject 4 too large",
        f"Record {4 + size + 1} three",
        "Record 0 one",
        "Reject 4 too large",
        f"Record {4 + (200 << 20) + 1} three",
    ]


def test_limits_of_a_text(tmp_path, read):
    path = tmp_path / "a.txt"
    path.write_text("x" * 1001)
    assert read(path, MediaSettings(limits=Limits(document_bytes=1000)))[0].reason == "too large"
    assert isinstance(read(path, MediaSettings(limits=Limits(document_bytes=1001)))[0], Record)
