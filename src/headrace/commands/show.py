"""``headrace show``: documents of a corpus with all that is known about them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from unicodedata import category

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, CorpusError, Problem

if TYPE_CHECKING:
    from headrace.corpus.catalogue.show import Shown

HELP = "print documents of a corpus: text, metadata, where they lie, their near-duplicates"
EXAMPLE = "headrace show corpus 7d1f0c63b2a94e58"
_LONGEST_TEXT = 4000
_ELSEWHERE = {"id", "shard", "position", "cluster"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("corpus", metavar="CORPUS", help="folder of a corpus")
    parser.add_argument(
        "ids", nargs="+", metavar="ID", help="id of a document, or its first digits (at least 6)"
    )
    parser.add_argument(
        "--full", action="store_true", help="print texts beyond 4,000 characters to their end"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--original",
        metavar="FILE",
        help="write the bytes that the document was read from to this file, or to standard output "
        "(-), in place of all else; of one document whose source keeps them",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the documents."""
    from headrace.corpus.catalogue.catalogue import Catalogue
    from headrace.corpus.catalogue.show import show

    if arguments.original is not None:
        _check_original(arguments)
    with Catalogue(arguments.corpus) as catalogue:
        documents = show(catalogue, arguments.ids)
    if arguments.original is not None:
        _write_original(documents[0], arguments.original)
        return EXIT_DONE
    if arguments.json:
        found = [document.to_json() for document in documents]
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return EXIT_DONE
    for number, document in enumerate(documents):
        if number:
            print()
        _print(document, full=arguments.full)
    return EXIT_DONE


def _check_original(arguments: argparse.Namespace) -> None:
    from headrace.shards import storage

    output = arguments.original
    problems = [] if output == "-" else storage.output_file_problems(output, "--original")
    if len(arguments.ids) > 1:
        remedy = "Give one id"
        value = counted(len(arguments.ids), "id")
        problems.append(Problem("takes one document", "--original", value, remedy))
    if problems:
        raise CorpusError(problems)


def _write_original(document: Shown, output: str) -> None:
    from headrace.shards import storage

    if document.original is None:
        what = "no original of the document is kept"
        remedy = "Build the corpus with keep_original of this source"
        raise CorpusError(Problem(what, document.row["id"], document.row["source"], remedy))
    if output == "-":
        sys.stdout.buffer.write(document.original)
        sys.stdout.buffer.flush()
    else:
        storage.write_atomically(output, document.original)


def _print(document: Shown, *, full: bool) -> None:
    row = document.row
    facts = {name: _words(value) for name, value in row.items() if name not in _ELSEWHERE}
    facts = {name: value for name, value in facts.items() if value}
    facts |= {name: _words(value) for name, value in document.metadata.items() if _words(value)}
    width = max(map(len, facts), default=0)
    print(row["id"])
    print(f"  {document.place}")
    for name, value in facts.items():
        print(_harmless(f"  {name:<{width}}  {value}"))
    if document.cluster:
        print(f"  cluster {row['cluster']} of {counted(document.cluster_size, 'document')}:")
        for other in document.cluster:
            state = "kept" if other["rule"] is None else f"left out: {other['rule']}"
            print(_harmless(f"    {other['id']}  {other['source']}  {other['key']}  ({state})"))
    print()
    text = document.marked()
    shown = text if full else text[:_LONGEST_TEXT]
    for line in shown.splitlines():
        print(f"  {_harmless(line)}")
    if len(shown) < len(text):
        print(f"  … {len(text) - len(shown):,} more characters: --full")


def _words(value: Any) -> str:
    """A value in one line; nothing where there is nothing."""
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(_words(one) for one in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _harmless(line: str) -> str:
    """The line without control characters: text of others must not steer the terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" else c for c in line)
