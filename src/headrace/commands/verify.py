"""``headrace verify``: read every byte of sources and list all that is wrong."""

from __future__ import annotations

import argparse
import json

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, EXIT_USER_ERROR

HELP = "read every byte of sources, check all hashes, list all problems"
EXAMPLE = "headrace verify data/en/train data/hi/train"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("urls", nargs="+", metavar="URL", help="folder of a source")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read side by side (default: the cores, fewer for little data)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Verify the sources; exit code 2 if any has a problem."""
    from headrace.shards.parallel import check_workers
    from headrace.shards.verify import verify_sources

    check_workers(arguments.workers)
    outcomes = verify_sources(arguments.urls, arguments.workers)
    sound = not any(outcome.problems for outcome in outcomes)
    if arguments.json:
        document = {"ok": sound, "sources": [outcome.to_json() for outcome in outcomes]}
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return EXIT_DONE if sound else EXIT_USER_ERROR
    for outcome in outcomes:
        state = counted(len(outcome.problems), "problem") if outcome.problems else "ok"
        print(
            f"{outcome.url}: {state} ({counted(outcome.shards, 'shard')}, "
            f"{counted(outcome.samples, 'sample')}, {outcome.bytes_read:,} bytes read)"
        )
        for problem in outcome.problems:
            print(f"  {problem}")
    return EXIT_DONE if sound else EXIT_USER_ERROR
