"""CoNLL: sentences of a token a line, joined to text again."""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.byte_lines import byte_lines
from headrace.corpus.media.encodings import decoded_as
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError, record_or_reject
from headrace.corpus.media.source_file import SourceFile

_COMMENT = re.compile(r"#\s*(id|sent_id|text)\b\s*=?\s*(.*)")
_UNSPACED = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\u3000-\u303f\uff00-\uffef]"
)


class ConllReader(Reader):
    """A sentence is a document: CoNLL-2003, MultiCoNER and CoNLL-U.

    The last is told by its ten columns; its ``# text`` is taken where it has one.
    """

    name = "conll"
    suffixes = (".conll", ".conllu", ".iob", ".iob2", ".bio")
    single = False
    filler = " "

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """A record for each sentence; its key is its ``# id`` or ``# sent_id``, or its place."""
        encoding = file.encoding()
        most = file.settings.limits.document_bytes
        block: list[bytes] = []
        begin = end = 0
        too_long = False

        def item() -> Record | Reject:
            place = f"{file.key}#{begin}"
            if too_long:
                return Reject(place, "too large", f"a sentence of more than {most} bytes", begin)
            length = end - begin

            def make() -> Record:
                lines = [decoded_as(line, encoding).removesuffix("\r") for line in block]
                if begin == 0:
                    lines[0] = lines[0].removeprefix("\ufeff")
                identifier, text = sentence_of(lines)
                key = place if identifier is None else f"{file.key}#{identifier}"
                return Record(
                    key, text, format=self.name, encoding=encoding, offset=begin, length=length
                )

            return record_or_reject(make, place, begin)

        with file.open() as stream:
            separator = "\n".encode(encoding)
            for line in byte_lines(stream, most=most, separator=separator):
                if line.content is not None and not line.content.strip(b"\r \t\0"):
                    if block or too_long:
                        yield item()
                    block, too_long = [], False
                    continue
                if not block and not too_long:
                    begin = line.offset
                end = line.offset + line.length
                if line.content is None or end - begin > most:
                    block, too_long = [], True
                else:
                    block.append(line.content)
            if block or too_long:
                yield item()


def sentence_of(lines: list[str]) -> tuple[str | None, str]:
    """The id of a sentence, if a comment gives one, and its text.

    Raises :class:`RefusalError` if it has no tokens (``empty``).
    """
    comments: dict[str, str] = {}
    rows: list[list[str]] = []
    for line in lines:
        found = _COMMENT.match(line) if line.startswith("#") and "\t" not in line else None
        if found is not None:
            # MultiCoNER writes "# id 1f2e… domain=en" in one line.
            value = found.group(2).strip()
            name = "sent_id" if found.group(1) == "id" else found.group(1)
            comments.setdefault(name, value if name == "text" else (value.split() or [""])[0])
        elif not (line.startswith("#") and not rows) and not line.startswith("-DOCSTART-"):
            rows.append(line.split("\t") if "\t" in line else line.split())
    if not rows:
        raise RefusalError("empty", "no tokens")
    universal = all(len(row) == 10 for row in rows)
    if universal and comments.get("text"):
        text = comments["text"]
    else:
        text = _universal(rows) if universal else joined([(row[0], True) for row in rows])
    return comments.get("sent_id") or None, text


def joined(tokens: list[tuple[str, bool]]) -> str:
    """Tokens as text, with a space behind those that say so.

    There is none between two characters of scripts that are written without spaces.
    """
    text = ""
    spaced = False
    for token, space_behind in tokens:
        if not token:
            continue
        if text and spaced and not (_UNSPACED.match(text[-1]) and _UNSPACED.match(token[0])):
            text += " "
        text += token
        spaced = space_behind
    return text


def _universal(rows: list[list[str]]) -> str:
    """CoNLL-U: a range such as ``3-4`` is a word of several; ``8.1`` is not in the text."""
    tokens: list[tuple[str, bool]] = []
    covered = 0
    for number, form, *_, misc in rows:
        first, hyphen, last = number.partition("-")
        if "." in number or (not hyphen and first.isdigit() and int(first) <= covered):
            continue
        if hyphen and last.isdigit():
            covered = int(last)
        tokens.append((form, "SpaceAfter=No" not in misc.split("|")))
    return joined(tokens)
