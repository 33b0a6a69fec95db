"""E-mail: the body of a message, and never its addresses."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

from headrace.corpus.documents import Record, Reject
from headrace.corpus.media.encodings import decoded
from headrace.corpus.media.reader import Reader
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.source_file import SourceFile
from headrace.corpus.media.web_page import declared_charset, plain_text

_ENCRYPTED = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")


class MailReader(Reader):
    """A message is a document: its part of plain text, or its HTML as text.

    The subject is its title; ``attachments`` in the metadata says how many there are.  Addresses,
    names of attachments and all other headers are left out.
    """

    name = "email"
    suffixes = (".eml",)

    def read(self, file: SourceFile) -> Iterator[Record | Reject]:
        """The one record of the file."""
        message = message_from_bytes(file.content(), policy=policy.default)
        if not message.keys():
            raise RefusalError("unreadable", "no headers of a message")
        parts = list(message.walk())
        if any(part.get_content_type() in _ENCRYPTED for part in parts):
            raise RefusalError("encrypted", "an encrypted message")
        body = message.get_body(("plain", "html"))
        if body is None:
            raise RefusalError("empty", "no text in the message")
        data = body.get_payload(decode=True)
        if not isinstance(data, bytes):
            raise RefusalError("unreadable", "the body is no text")
        is_html = body.get_content_subtype() == "html"
        charset = body.get_content_charset() or (declared_charset(data) if is_html else None)
        text, encoding = decoded(data, charset or file.settings.encoding)
        yield Record(
            file.key,
            plain_text(text) if is_html else text,
            language=_header(message, "content-language"),
            title=_header(message, "subject"),
            collected_at=_date(message),
            format=self.name,
            encoding=encoding,
            metadata={"attachments": sum(part.is_attachment() for part in _emails(parts))},
        )


def _emails(parts: list[EmailMessage]) -> Iterator[EmailMessage]:
    return (part for part in parts if isinstance(part, EmailMessage))


def _header(message: EmailMessage, name: str) -> str | None:
    """A header; None without it, and where the parser fails on it, which it does on odd ones."""
    try:
        value = message[name]
    except Exception:  # IndexError, AttributeError and others, by version of Python
        return None
    return " ".join(str(value).split()) or None if value is not None else None


def _date(message: EmailMessage) -> str | None:
    try:
        moment = message["date"].datetime
    except Exception:  # no date, or one that the parser fails on
        return None
    return None if moment is None else str(moment.isoformat())
