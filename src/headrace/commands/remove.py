"""``headrace remove``: take documents out of a corpus, its caches and the runs that read it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE

if TYPE_CHECKING:
    from headrace.corpus.privacy import Key
    from headrace.corpus.takedown.raw import RawFile
    from headrace.corpus.takedown.request import Match, Request

HELP = "take documents out of a corpus and all that was made of it; shows first what would go"
EXAMPLE = "headrace remove corpus --domain example.org --stage overwrite --yes"
_SHOWN = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("output", metavar="OUT", help="folder of a corpus, or of one source")
    for kind, metavar, what in (
        ("id", "ID", "a document by its id, the key of its sample"),
        ("url", "URL", "documents by their address"),
        ("domain", "HOST", "all documents of a web site, those of its subdomains too"),
        ("source", "ID", "all documents of a source of the recipe"),
        ("custodian", "NAME", "all documents of the sources that somebody answers for"),
        ("subject", "ADDRESS", "documents with a person's mail address or telephone number in "
         "them; - reads it from standard input, so that no shell remembers it"),
        ("text", "FILE", "documents with the text of a file"),
    ):  # fmt: skip
        parser.add_argument(
            f"--{kind}", action="append", default=[], metavar=metavar, help=f"{what}; repeatable"
        )
    parser.add_argument(
        "--no-duplicates",
        action="store_true",
        help="not what the build found to be nearly the same (default: with it)",
    )
    parser.add_argument(
        "--stage",
        choices=("tombstone", "overwrite", "compact"),
        default="tombstone",
        help="tombstone: not served any more (default); overwrite: its bytes too; compact: a new "
        "version without gaps, which no run under way can go on with",
    )
    parser.add_argument("--yes", action="store_true", help="do it; without it nothing is changed")
    parser.add_argument(
        "--key", metavar="FILE", help="key of the corpus: finds subjects, signs the log"
    )
    parser.add_argument(
        "--region", action="append", default=[], metavar="COUNTRY",
        help="country of a telephone number without a calling code; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--cache-dir", action="append", metavar="DIR",
        help="folder of encoded sidecars to purge; repeatable (default: .headrace/encoded)",
    )  # fmt: skip
    parser.add_argument(
        "--shard-cache", action="append", default=[], metavar="DIR",
        help="folder of copies of remote shards to purge; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--raw-inputs",
        action="store_true",
        help="the raw input of the documents too: files are deleted, records in others blanked",
    )
    parser.add_argument(
        "--check-log", action="store_true", help="only check the log of takedowns, line by line"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Show what would go, or remove it."""
    from headrace.corpus.privacy import load_key

    key = None if arguments.key is None else load_key(arguments.key)
    if arguments.check_log:
        return _check_log(arguments, key)
    from headrace.corpus.takedown.places import open_place
    from headrace.corpus.takedown.raw import has_origins, plan_raw
    from headrace.corpus.takedown.remove import Caches, take_down
    from headrace.corpus.takedown.request import Match, resolve

    place = open_place(arguments.output)
    requests = _requests(arguments, key)
    match = Match()
    if requests:
        match = resolve(place, requests, clusters=not arguments.no_duplicates)
    raw = None
    if arguments.raw_inputs or has_origins(place):
        raw = plan_raw(place, match, requests)
    if not arguments.yes:
        _show(arguments, match, raw, None)
        return EXIT_DONE
    caches = Caches(
        tuple(map(Path, arguments.cache_dir or [".headrace/encoded"])),
        tuple(map(Path, arguments.shard_cache)),
    )
    outcome = take_down(
        place,
        match,
        requests,
        stage=arguments.stage,
        key=key,
        caches=caches,
        raw_inputs=raw if arguments.raw_inputs else None,
    )
    _show(arguments, match, raw, asdict(outcome))
    return EXIT_DONE


def _requests(arguments: argparse.Namespace, key: Key | None) -> list[Request]:
    from headrace.corpus.takedown.request import KINDS, make_request
    from headrace.errors import CorpusError, Problem, UserError

    requests: list[Request] = []
    problems: list[Problem] = []
    for kind in KINDS:
        for given in getattr(arguments, kind):
            try:
                value = given
                if kind == "text":
                    value = _text_of(given)
                elif kind == "subject" and given == "-":
                    value = sys.stdin.readline().strip()
                requests.append(make_request(kind, value, key, arguments.region))
            except UserError as error:
                problems += error.problems
    if problems:
        raise CorpusError(problems)
    if not requests and arguments.stage == "tombstone":
        remedy = "Name documents, or bring what was removed further: --stage overwrite"
        raise CorpusError(Problem("nothing is named", "headrace remove", remedy=remedy))
    return requests


def _text_of(name: str) -> str:
    from headrace.shards import storage

    return storage.read_bytes(name).decode("utf-8", "replace")


def _check_log(arguments: argparse.Namespace, key: Key | None) -> int:
    from headrace.corpus.takedown.log import read_log

    log = read_log(arguments.output, key)
    if arguments.json:
        print(json.dumps({"ok": True, "lines": len(log.lines), "unsigned": log.unsigned}))
        return EXIT_DONE
    print(f"{counted(len(log.lines), 'line')}, all bound to the one before")
    if log.unsigned:
        print(f"{counted(log.unsigned, 'line')} without a signature that could be checked: --key")
    return EXIT_DONE


def _show(
    arguments: argparse.Namespace,
    match: Match,
    raw: list[RawFile] | None,
    outcome: dict[str, Any] | None,
) -> None:
    ids = sorted(match.ids)
    if arguments.json:
        document = {
            "removed": outcome is not None,
            "stage": arguments.stage,
            "documents": len(ids),
            "near_duplicates": match.of_clusters,
            "filtered": len(match.filtered),
            "by_language": dict(sorted(match.by_language.items())),
            "by_source": dict(sorted(match.by_source.items())),
            "ids": ids,
            "raw_inputs": [
                {"file": file.url, "documents": len(file.rows), "action": file.action}
                for file in raw or ()
            ],
            "outcome": outcome,
        }
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return
    verb = "would be removed" if outcome is None else "removed"
    print(f"{counted(len(ids), 'document')} {verb} ({arguments.stage})")
    if match.of_clusters:
        print(f"  of them only near-duplicates of what was named: {match.of_clusters:,}")
    if match.filtered:
        print(f"  rows of documents that the build had left out: {len(match.filtered):,}")
    for title, counts in (("language", match.by_language), ("source", match.by_source)):
        for name, count in _most(counts.items()):
            if name:
                print(f"  {title} {name}: {count:,}")
    if ids:
        more = f", and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
        print(f"  ids: {', '.join(ids[:_SHOWN])}{more}")
    if outcome is None:
        _show_raw(arguments, raw or [], None)
        print("Nothing was changed. Give --yes to do it.")
        return
    for language, epoch in outcome["epochs"].items():
        print(f"  {language or arguments.output}: tombstones up to epoch {epoch}")
    for language, shards in outcome["overwritten"].items():
        print(f"  {language or arguments.output}: {counted(len(shards), 'shard')} overwritten")
    for language in outcome["compacted"]:
        print(f"  {language or arguments.output}: compacted; samples have new numbers")
    for language in outcome["emptied"]:
        print(f"  {language or arguments.output}: nothing of it is left, so it was not compacted")
    print(
        f"  purged: {counted(sum(outcome['rows'].values()), 'row')} of tables, "
        f"{counted(outcome['sidecars'], 'encoded shard')}, "
        f"{counted(outcome['cached'], 'cached copy', 'cached copies')}"
    )
    if outcome["cached_in_use"]:
        copies = counted(outcome["cached_in_use"], "cached copy", "cached copies")
        print(f"  {copies} left, which jobs use: delete the cache when they have ended")
    _show_raw(arguments, raw or [], outcome["raw"])


def _show_raw(
    arguments: argparse.Namespace, raw: list[RawFile], outcome: dict[str, Any] | None
) -> None:
    """What happens to raw input, and each file of which something is left."""
    if not arguments.raw_inputs:
        if raw:
            print(
                f"  raw input stays, in {counted(len(raw), 'file')}: {_some(raw)}; --raw-inputs "
                "takes it along, and only together with the documents, whose rows say where it is"
            )
        return
    if outcome is not None:
        files, records = outcome["files"], outcome["records"]
        left = [(one["file"], one["documents"], one["reason"], one["remedy"])
                for one in outcome["left"]]  # fmt: skip
        print(
            f"  raw input: {counted(files, 'file')} deleted, "
            f"{counted(records, 'document')} blanked in others"
        )
    else:
        files = sum(file.action == "delete" for file in raw)
        records = sum(len(file.rows) for file in raw if file.action == "blank")
        left = [(file.url, len(file.rows), file.why, "") for file in raw if file.action == "leave"]
        print(
            f"  raw input: {counted(files, 'file')} would be deleted, "
            f"{counted(records, 'document')} blanked in others"
        )
    for file, documents, reason, remedy in left:
        more = f". {remedy}" if remedy else ""
        print(f"  raw input left: {file}: {counted(documents, 'document')}: {reason}{more}")


def _some(raw: list[RawFile]) -> str:
    more = f" and {len(raw) - _SHOWN:,} more" if len(raw) > _SHOWN else ""
    return ", ".join(file.url for file in raw[:_SHOWN]) + more


def _most(counts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(counts, key=lambda pair: (-pair[1], pair[0]))
