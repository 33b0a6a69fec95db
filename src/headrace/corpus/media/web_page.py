"""What a web page says: its text, and its language, title, licence and encoding."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlsplit

from headrace.corpus.media.encodings import decoded
from headrace.corpus.media.optional import needed
from headrace.corpus.media.refusal import RefusalError
from headrace.corpus.media.settings import HtmlSettings

DEEPEST = 1000
"""Open elements at which a page is refused: parsers and extractors need quadratic time there."""
_HEAD_BYTES = 4096
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.-]{1,40})""")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:-]{0,30})")
# Elements that are empty, or that the next of them closes: open tags of theirs do not nest.
_FLAT = frozenset(
    (
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param"),
        *("source", "track", "wbr", "p", "li", "dt", "dd", "option", "optgroup", "tr", "td", "th"),
        *("thead", "tbody", "tfoot", "colgroup", "rp", "rt", "html", "head", "body"),
    )
)
_LICENCE_LINK = re.compile(
    r"https?://(www\.)?creativecommons\.org/(licenses|publicdomain)/", re.IGNORECASE
)
_LICENCE_NAMES = ("dcterms.license", "dc.license", "dcterms.rights", "cc:license")
_MOST_LINKS = 20
# Read without the tree: selecting elements of it takes a hundred times as long.
_LINK_OR_META = re.compile(r"<(a|link|area|meta)\s([^<>]*)>", re.IGNORECASE)
_MAY_BE_LICENCE = re.compile(r"licen|creativecommons|rights", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'<>]+)""")


@dataclass(frozen=True, slots=True)
class WebPage:
    """A page as text, and what it declares."""

    text: str
    encoding: str
    language: str | None
    title: str | None
    licence: str | None
    """URL or name of the licence that the page gives for itself."""
    licence_links: tuple[str, ...]
    """All links to Creative Commons licences, which may be of what the page quotes."""
    method: str
    """What told the text from its surroundings."""


def page_of(data: bytes, settings: HtmlSettings, charset: str | None = None) -> WebPage:
    """The page in a file of HTML or XHTML.

    Args:
        charset: What a header of HTTP or the recipe declares; else the page itself does.

    Raises:
        RefusalError: for an unknown encoding, and for pages nested deeper than ``DEEPEST``.
    """
    text, encoding = decoded(data, charset or declared_charset(data))
    text = text.replace("\0", "")  # which a browser does too
    refuse_deep(text)
    tree = needed("resiliparse.parse.html", "resiliparse", "reading web pages").HTMLTree.parse(text)
    licence, links = _licence_of(text)
    body, method = _main_text(text, tree, settings)
    return WebPage(
        body.strip(), encoding, _language_of(tree), _title_of(tree), licence, links, method
    )


def plain_text(markup: str) -> str:
    """All text of a page, a chapter or a message, paragraphs and list items on their own lines."""
    refuse_deep(markup)
    tree = needed("resiliparse.parse.html", "resiliparse", "reading HTML").HTMLTree.parse(markup)
    return _everything(tree)


def declared_charset(data: bytes) -> str | None:
    """The encoding that a page or an XML document declares in its first bytes."""
    head = data[:_HEAD_BYTES]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    found = _XML_ENCODING.search(head) or _CHARSET.search(head)
    name = found.group(1).decode("ascii").lower() if found else None
    # A page that could be read this far is in no encoding of two bytes a character.
    return "utf-8" if name is not None and name.startswith(("utf-16", "utf-32")) else name


def refuse_deep(markup: str) -> None:
    """Raise :class:`RefusalError` if more than ``DEEPEST`` elements are open at once.

    Counted without a parser, so that it takes linear time.
    """
    depth = 0
    for tag in _TAG.finditer(markup):
        if tag.group(2).lower() in _FLAT:
            continue
        depth = max(0, depth - 1) if tag.group(1) else depth + 1
        if depth > DEEPEST:
            raise RefusalError("unreadable", f"elements nested deeper than {DEEPEST}")


def _main_text(markup: str, tree: Any, settings: HtmlSettings) -> tuple[str, str]:
    """The text without what surrounds it, and what found it: the next one where one finds none."""
    if settings.mode == "full":
        found = needed("trafilatura", "trafilatura", "reading web pages").bare_extraction(
            markup,
            favor_precision=settings.favour == "precision",
            favor_recall=settings.favour == "recall",
            include_comments=settings.comments,
            include_tables=settings.tables,
        )
        if found is not None and found.text:
            comments = found.comments if settings.comments else None
            return "\n".join(filter(None, (found.text, comments))), "trafilatura"
    extract = needed("resiliparse.extract.html2text", "resiliparse", "reading web pages")
    skipped = [] if settings.tables else ["table"]
    text = extract.extract_plain_text(
        tree,
        main_content=True,
        alt_texts=False,
        comments=settings.comments,
        skip_elements=skipped,
    )
    if text.strip():
        return text, "resiliparse"
    return _everything(tree), "all text"


def _everything(tree: Any) -> str:
    extract = needed("resiliparse.extract.html2text", "resiliparse", "reading HTML")
    text: str = extract.extract_plain_text(tree, main_content=False, alt_texts=False)
    return text


def _language_of(tree: Any) -> str | None:
    for element in tree.document.query_selector_all("html"):
        language = element.getattr("lang", None) or element.getattr("xml:lang", None)
        if language and language.strip():
            return str(language).strip()
    for element in tree.document.query_selector_all("meta[http-equiv]"):
        if element.getattr("http-equiv", "").lower() == "content-language":
            return str(element.getattr("content", "")).partition(",")[0].strip() or None
    return None


def _title_of(tree: Any) -> str | None:
    return " ".join((tree.title or "").split()) or None


def _licence_of(markup: str) -> tuple[str | None, tuple[str, ...]]:
    """The licence of the page, and all links to licences.

    ``rel="license"`` and metadata name it; a link to one without them does if it is the only one.
    """
    declared: list[str] = []
    linked: list[str] = []
    in_metadata: list[str] = []
    for tag in _LINK_OR_META.finditer(markup):
        if not _MAY_BE_LICENCE.search(tag.group()):
            continue
        values = {
            name.lower(): unescape(value.strip("\"'")).strip()
            for name, value in _ATTRIBUTE.findall(tag.group(2))
        }
        if tag.group(1).lower() == "meta":
            name = values.get("name") or values.get("property") or ""
            if name.lower() in _LICENCE_NAMES and 0 < len(values.get("content", "")) < 500:
                in_metadata.append(values["content"])
            continue
        href = values.get("href", "")
        if "license" in values.get("rel", "").lower().split() and _is_link(href):
            declared.append(href)
        if _LICENCE_LINK.match(href):
            linked.append(href)
    links = tuple(dict.fromkeys(linked))
    named = declared + in_metadata
    licence = named[0] if named else links[0] if len(links) == 1 else None
    return licence, links[:_MOST_LINKS]


def _is_link(href: str) -> bool:
    try:
        return urlsplit(href).scheme in ("http", "https")
    except ValueError:
        return False
