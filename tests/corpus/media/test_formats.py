"""Each format, from files that other programs or the standard library wrote."""

import io
import zipfile
from datetime import datetime
from email.message import EmailMessage

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media import Fields, HtmlSettings, MediaSettings, formats, parts, read_records

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def test_all_formats_are_there():
    assert set(formats()) >= {
        "text", "lines", "json_lines", "csv", "tsv", "parquet", "html", "warc", "pdf", "image",
        "docx", "odt", "epub", "email", "markdown", "conll", "rtf",
    }  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_rows_have_their_bytes(tmp_path, read, delimiter):
    rows = [
        "id,text,lang",
        "1,one,de",
        '2,"two, with ""quotes""\nin lines",en',
        "3,three",
        "4,x,fr",
    ]
    data = "\ufeff" + "\n".join(rows).replace(",", delimiter) + "\n"
    path = tmp_path / "a.csv"
    path.write_text(data, encoding="utf-8", newline="")
    one, two, short, last = read(path, MediaSettings(fields=Fields(language="lang")))
    assert (one.key, one.text, one.language) == ("a.csv#1", "one", "de")
    assert two.text == f'two{delimiter} with "quotes"\nin lines'
    raw = path.read_bytes()[two.offset : two.offset + two.length]
    assert raw.startswith(b"2")
    assert raw.endswith(b"en")
    assert (short.reason, short.detail) == ("unreadable", "2 columns under a header of 3")
    assert path.read_bytes()[short.offset :].startswith(b"3")
    assert last.text == "x"


def test_csv_with_an_open_quote_is_not_taken_for_a_text(tmp_path, read):
    path = tmp_path / "a.csv"
    path.write_text('text,id\none,1\n"two,2\nthree,3\n')
    one, bad = read(path)
    assert one.text == "one"
    assert bad == Reject("a.csv#14", "unreadable", "a quote that is never closed", 14)


def test_a_column_that_a_recipe_names_must_be_there(tmp_path, read):
    path = tmp_path / "a.tsv"
    path.write_text("text\ttopic\nhello\tx\n")
    assert [record.text for record in read(path)] == ["hello"]
    (bad,) = read(path, MediaSettings(fields=Fields(url="link")))
    assert bad.detail == "no column link; there are: text, topic"


def test_tsv_in_any_cut(tmp_path, read):
    path = tmp_path / "a.tsv"
    path.write_text("text\tn\n" + "".join(f"line {n} \u0bb5\t{n}\n" for n in range(200)))
    settings = MediaSettings(fields=Fields(id="n"))
    whole = read(path, settings)
    assert [record.key for record in whole] == [f"a.tsv#{n}" for n in range(200)]
    for size in (37, 1000):
        found = [r for s, e in parts(str(path), settings, size=size)
                 for r in read(path, settings, start=s, end=e)]  # fmt: skip
        assert found == whole


def test_parquet_by_row_groups(tmp_path, read):
    path = tmp_path / "a.parquet"
    table = pa.table({
        "text": [f"text {n} " * 50 for n in range(100)],
        "meta": [{"url": f"http://x/{n}", "day": datetime(2024, 1, 1 + n % 9)} for n in range(100)],
    })  # fmt: skip
    pq.write_table(table, path, row_group_size=10)
    settings = MediaSettings(fields=Fields(url="meta.url", collected_at="meta.day"))
    whole = read(path, settings)
    assert [record.key for record in whole] == [f"a.parquet#{n}" for n in range(100)]
    assert (whole[3].url, whole[3].collected_at) == ("http://x/3", "2024-01-04T00:00:00")
    ranges = parts(str(path), settings, size=1)
    assert len(ranges) == 10
    assert [r for s, e in ranges for r in read(path, settings, start=s, end=e)] == whole
    (bad,) = read(path, MediaSettings(fields=Fields(text="body")))
    assert bad.detail == "no column body; there are: text, meta"


PAGE = """<!DOCTYPE html><html lang="sw"><head><meta charset="%s"><title>Habari \u2013 leo</title>
</head><body><nav><a href="/">Nyumbani</a></nav><article><h1>Habari</h1>
<p>Huu ni mfano wa maandishi marefu, \u201cyenye\u201d maneno ya kutosha kwa ajili ya jaribio.</p>
<p>Aya ya pili ina maneno mengine, na pia inaeleza jambo lingine kabisa kuhusu siku ya leo.</p>
</article><footer>%s</footer><script>var secret = 1;</script></body></html>"""
BY = '<a rel="license" href="https://creativecommons.org/licenses/by/4.0/">CC BY</a>'
OTHER = '<a href="https://creativecommons.org/licenses/by-nc/2.0/">quoted</a>'
ONE_MORE = '<a href="https://creativecommons.org/publicdomain/zero/1.0/">quoted</a>'


@pytest.mark.parametrize("mode", ["full", "fast"])
@pytest.mark.parametrize("charset", ["utf-8", "windows-1252"])
def test_a_page_with_its_language_title_and_licence(tmp_path, read, mode, charset):
    path = tmp_path / "a.html"
    path.write_bytes((PAGE % (charset, BY + OTHER)).encode(charset))
    (record,) = read(path, MediaSettings(html=HtmlSettings(mode=mode)))
    assert "\u201cyenye\u201d maneno" in record.text
    assert "Aya ya pili" in record.text
    assert "secret" not in record.text
    assert "Nyumbani" not in record.text
    assert (record.language, record.title) == ("sw", "Habari \u2013 leo")
    assert record.licence == "https://creativecommons.org/licenses/by/4.0/"
    assert len(record.metadata["licence_links"]) == 2
    assert record.encoding == ("utf-8" if charset == "utf-8" else "cp1252")


def test_a_licence_that_is_only_quoted_beside_another_is_not_that_of_the_page(tmp_path, read):
    path = tmp_path / "a.html"
    path.write_text(PAGE % ("utf-8", OTHER + ONE_MORE))
    assert read(path)[0].licence is None
    path.write_text(PAGE % ("utf-8", OTHER))
    assert read(path)[0].licence == "https://creativecommons.org/licenses/by-nc/2.0/"


def warc_record(kind, content_type, block, number):
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:id-{number}>\r\n"
        f"WARC-Target-URI: https://example.org/{number}\r\nWARC-Date: 2024-05-01T00:00:00Z\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def http(status, content_type, body):
    return f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\n\r\n".encode() + body


def test_a_crawl(tmp_path, read):
    import gzip

    page = (PAGE % ("utf-8", BY)).encode()
    answer = "application/http; msgtype=response"
    records = [
        warc_record("warcinfo", "application/warc-fields", b"software: x\r\n", 0),
        warc_record("request", "application/http; msgtype=request", b"GET / HTTP/1.1\r\n\r\n", 1),
        warc_record("response", answer, http(200, "text/html; charset=utf-8", page), 2),
        warc_record("response", answer, http(404, "text/html", b"<p>gone</p>"), 3),
        warc_record("response", answer, http(200, "image/png", b"\x89PNG"), 4),
        warc_record("conversion", "text/plain", "Текст страницы".encode(), 5),
        warc_record("response", answer, http(200, "text/plain; charset=koi8-r",
                                             "Привет".encode("koi8-r")), 6),
    ]  # fmt: skip
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(map(gzip.compress, records)))
    found = read(path)
    assert [item.key for item in found] == [f"a.warc.gz#id-{n}" for n in (2, 3, 4, 5, 6)]
    first, gone, picture, wet, koi8 = found
    assert first.text.startswith("Habari")
    assert first.licence.endswith("/by/4.0/")
    assert (first.url, first.collected_at) == ("https://example.org/2", "2024-05-01T00:00:00Z")
    assert first.offset == sum(map(len, records[:2]))
    assert (gone.reason, gone.detail) == ("not supported", "HTTP status 404")
    assert picture.detail == "content type 'image/png'"
    assert (wet.text, koi8.text) == ("Текст страницы", "Привет")
    path = tmp_path / "b.warc"
    path.write_bytes(b"".join(records[:3])[:-400])
    assert all(isinstance(item, Reject) for item in read(path))


def docx_of(body):
    import docx

    stream = io.BytesIO()
    docx.Document().save(stream)
    result = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "word/document.xml":
                data = f"<w:document {WORD}><w:body>{body}</w:body></w:document>".encode()
            new.writestr(name, data)
    return result.getvalue()


def test_word_in_the_order_of_the_document_with_changes_accepted(tmp_path, read):
    def p(text, props=""):
        return f"<w:p>{props}<w:r><w:t>{text}</w:t></w:r></w:p>"

    item = '<w:pPr><w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr></w:pPr>'
    cell = "<w:tc>{}</w:tc>".format
    nested = f"<w:tbl><w:tr>{cell(p('in'))}{cell(p('side'))}</w:tr></w:tbl>"
    body = (
        p("before")
        + p("first", item)
        + f"<w:tbl><w:tr>{cell(p('a') + p('b'))}{cell(nested)}</w:tr></w:tbl>"
        + "<w:p><w:ins><w:r><w:t>added</w:t></w:r></w:ins>"
        + "<w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
        + f"<w:sdt><w:sdtContent>{p('control')}</w:sdtContent></w:sdt>"
    )
    path = tmp_path / "a.docx"
    path.write_bytes(docx_of(body))
    (record,) = read(path)
    lines = ["before", "- first", "a b\tin side", "added", "control"]
    assert record.text.replace("in\tside", "in side").split("\n") == lines


def test_mail(tmp_path, read):
    message = EmailMessage()
    message["From"] = "Ann <ann@example.com>"
    message["To"] = "bob@example.com"
    message["Subject"] = "Grüße"
    message["Date"] = "Fri, 03 May 2024 10:00:00 +0200"
    message.set_content("Hallo Welt\n", cte="base64")
    message.add_alternative("<p>Hallo <b>HTML</b></p>", subtype="html")
    message.add_attachment(b"x", maintype="image", subtype="png", filename="bob_smith.png")
    path = tmp_path / "a.eml"
    path.write_bytes(message.as_bytes())
    (record,) = read(path)
    assert (record.text, record.title) == ("Hallo Welt\n", "Grüße")
    assert record.collected_at == "2024-05-03T10:00:00+02:00"
    assert record.metadata == {"attachments": 1}
    assert "example.com" not in repr(record)
    assert "smith" not in repr(record)


def test_mail_in_hebrew_of_rfc_1556(tmp_path, read):
    path = tmp_path / "a.eml"
    path.write_bytes(
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=ISO-8859-8-I\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        b"8uPr5e8gVGVzbGEgLSDw4/j5+iDn+unu5CDy7CDk4ff55CDs+On55e0g\r\n"
    )
    (record,) = read(path)
    assert record.text.startswith("עדכון Tesla - נדרשת")
    assert record.encoding == "iso8859-8"


def test_markdown_with_front_matter(tmp_path, read):
    path = tmp_path / "a.md"
    path.write_text(
        "---\ntitle: Ein Titel\nlang: de\nlicense: CC-BY-4.0\ndate: 2024-01-02\n---\n# Text\n"
    )
    (record,) = read(path)
    assert (record.text, record.title, record.language) == ("# Text\n", "Ein Titel", "de")
    assert (record.licence, record.collected_at) == ("CC-BY-4.0", "2024-01-02")


def test_conll(tmp_path, read):
    path = tmp_path / "a.conll"
    path.write_text(
        "# id abc domain=en\nhello _ _ O\nworld _ _ O\n\n今日 _ _ O\nは _ _ O\n", "utf-8"
    )
    one, two = read(path)
    assert (one.key, one.text) == ("a.conll#abc", "hello world")
    assert (two.text, two.offset) == ("今日は", 44)
    universal = tmp_path / "b.conllu"
    row = "{}\t{}\t_\t_\t_\t_\t_\t_\t_\t{}\n".format
    universal.write_text(
        "# sent_id = s1\n" + row("1-2", "vámonos", "_") + row(1, "vamos", "_") + row(2, "nos", "_")
        + row(3, "al", "SpaceAfter=No") + row(4, ".", "_") + "\n"
    )  # fmt: skip
    (sentence,) = read(universal)
    assert (sentence.key, sentence.text) == ("b.conllu#s1", "vámonos al.")


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", True), ("utf-16-le", True), ("utf-16-be", True), ("utf-32-le", True),
     ("utf-32-be", True), ("utf-16-le", False), ("utf-32-be", False), ("utf-8", False)],
)  # fmt: skip
def test_unicode_with_and_without_a_mark(tmp_path, read, encoding, mark):
    text = "Ein Satz mit Umläuten: äöü. " * 10
    path = tmp_path / "a.txt"
    path.write_bytes((("\ufeff" if mark else "") + text).encode(encoding))
    (record,) = read(path)
    assert (record.text, record.encoding) == (text, encoding)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("koi8-u", "Усі люди народжуються вільними і рівними у своїй гідності та правах. " * 3),
        ("cp1251", "Все люди рождаются свободными и равными в своём достоинстве. " * 3),
        ("gb18030", "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。" * 3),
        ("cp1252", "Todos los seres humanos nacen libres é iguales en dignidad. Señor, ¿qué? " * 3),
        ("euc_jp", "すべての人間は、生まれながらにして自由であり、平等である。" * 3),
    ],
)
def test_other_encodings_are_detected_and_recorded(tmp_path, read, encoding, text):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    (record,) = read(path)
    assert record.text == text
    assert text.encode(record.encoding) == text.encode(encoding)


def test_a_declared_encoding_comes_first(tmp_path, read):
    path = tmp_path / "a.txt"
    path.write_bytes("ÀÉ".encode("cp1250", "ignore") + b" caf\xe9")
    assert read(path, MediaSettings(encoding="cp1250"))[0].encoding == "cp1250"
    with pytest.raises(ValueError, match="no encoding of text"):
        MediaSettings(encoding="hex")


def test_files_of_fsspec(read):
    import fsspec

    with fsspec.open("memory://media/a.jsonl", "wb") as file:
        file.write(b'{"text": "one"}\n{"text": "two"}\n')
    found = [item for s, e in parts("memory://media/a.jsonl", size=10)
             for item in read("memory://media/a.jsonl", start=s, end=e)]  # fmt: skip
    assert [item.text for item in found] == ["one", "two"]
    assert all(isinstance(item, Record) for item in read_records("memory://media/a.jsonl"))
