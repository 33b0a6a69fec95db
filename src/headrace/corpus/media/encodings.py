"""Which encoding a text is in: marked, declared or detected; mojibake is not mended here."""

from __future__ import annotations

import codecs

from headrace.corpus.media.optional import needed
from headrace.corpus.media.refusal import RefusalError

SAMPLE_BYTES = 1 << 16
"""How much of a text is looked at to detect its encoding."""

# Longest first: the mark of UTF-32-LE begins with that of UTF-16-LE.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What the web means by these names (https://encoding.spec.whatwg.org/#names-and-labels), and what
# e-mail means by the directions of RFC 1556: text in either order of display is decoded alike.
_MEANT = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "windows-874": "cp874",
    "iso-8859-8-i": "iso8859-8",
    "iso-8859-8-e": "iso8859-8",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "sjis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "big5": "big5hkscs",
    "unicode": "utf-16",
    "koi8-r": "koi8-u",  # the same letters, and four more
    "utf8": "utf-8",
    "utf-8-sig": "utf-8",
}
_NO_TEXT = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}


def codec_of(label: str) -> str | None:
    """Python's name of the encoding that a label means; None if it is not known."""
    name = label.strip().strip("\"'").lower()
    try:
        info = codecs.lookup(_MEANT.get(name, name))
    except (LookupError, ValueError):
        return None
    # No encodings of text: "hex", "zip", and those that spell characters out.
    if not getattr(info, "_is_text_encoding", True) or info.name.replace("-", "_") in _NO_TEXT:
        return None
    return info.name


def marked(data: bytes) -> tuple[str, int] | None:
    """The encoding that a byte order mark says and the bytes of the mark; None without one."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name, len(mark)
    return None


def encoding_of(
    sample: bytes,
    declared: str | None = None,
    *,
    whole: bool = True,
    otherwise: str | None = None,
) -> str:
    """The encoding of a text that begins with ``sample``, as Python names it.

    A byte order mark decides, then what is ``declared`` if the sample can be that, then UTF-8 if
    it is that nearly everywhere, then zero bytes (UTF-16 and UTF-32), then the statistics of
    resiliparse.

    Args:
        whole: Whether the sample is the whole text; its last character may be cut otherwise.
        otherwise: What it is without a mark, a declaration or zero bytes, in formats that say so.

    Raises:
        RefusalError: of the reason ``encoding`` if it is none that is known.
    """
    mark = marked(sample)
    if mark is not None:
        return mark[0]
    named = codec_of(declared) if declared else None
    if named in ("utf-16", "utf-32"):  # those without a mark are little-endian in nearly all cases
        named += "-le"
    if named is not None and _fits(sample, named, whole):
        return named
    wide = _wide(sample)
    if wide is not None:
        return wide
    if otherwise is not None:
        return otherwise
    if _fits(sample, "utf-8", whole) or _mostly_utf_8(sample):
        return "utf-8"
    found = _detected(sample, whole)
    if found is None:
        raise RefusalError("encoding", "not UTF-8, and no other encoding is likely")
    return found


def decoded(data: bytes, declared: str | None = None) -> tuple[str, str]:
    """``(text, encoding)`` of a whole text, without its byte order mark.

    Raises :class:`RefusalError` as :func:`encoding_of`, and where bytes do not belong to the
    encoding.
    """
    name = encoding_of(data[:SAMPLE_BYTES], declared, whole=len(data) <= SAMPLE_BYTES)
    return decoded_as(data, name).removeprefix("\ufeff"), name


def decoded_as(data: bytes, encoding: str) -> str:
    """The text in an encoding; :class:`RefusalError` if it is not in it."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        detail = f"byte {data[error.start]:#04x} at {error.start} is not {encoding}"
        raise RefusalError("encoding", detail) from None


def _fits(sample: bytes, name: str, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder(name)().decode(sample, whole)
    except UnicodeDecodeError:
        return False
    return True


def _mostly_utf_8(sample: bytes) -> bool:
    """Whether it is damaged UTF-8: other encodings hardly ever have its sequences by chance."""
    text = sample.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    return sum(character > "\x7f" for character in text) - bad > 10 * bad


def _wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: most characters of any text have a zero or small half."""
    if b"\0" not in sample or len(sample) < 4:
        return None
    units = len(sample) // 4
    zeros = [sample[n : units * 4 : 4].count(0) / units for n in range(4)]
    if max(zeros) - min(zeros) < 0.4:
        return None  # no text: as many zero bytes in all places
    if zeros[2] > 0.9 and zeros[3] > 0.9:
        return "utf-32-le"
    if zeros[0] > 0.9 and zeros[1] > 0.9:
        return "utf-32-be"
    low, high = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    if high > 0.4 and low < 0.1:
        return "utf-16-le"
    if low > 0.4 and high < 0.1:
        return "utf-16-be"
    return None


def _detected(sample: bytes, whole: bool) -> str | None:
    if b"\0" in sample:
        return None  # no encoding of one byte a unit has them
    detector = needed("resiliparse.parse.encoding", "resiliparse", "detecting an encoding")
    name = codec_of(detector.detect_encoding(sample) or "")
    return name if name is not None and _fits(sample, name, whole) else None
