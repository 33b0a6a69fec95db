"""``headrace card``: the card of a corpus, and whether it still fits."""

from __future__ import annotations

import argparse
from pathlib import Path

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, EXIT_USER_ERROR, CorpusError, Problem

HELP = "write the card of a corpus for people and machines, or check that it still fits"
EXAMPLE = "headrace card corpus --describe card.yaml\n  headrace card corpus --check"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("corpus", metavar="CORPUS", help="folder of a corpus on this machine")
    parser.add_argument(
        "--describe",
        metavar="YAML",
        help="what people have to say about it (default: card.yaml of the corpus)",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 2 if the card is stale"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the card and say what it lacks, or print what is stale."""
    from headrace.corpus.card import write
    from headrace.shards import storage

    if arguments.check and arguments.describe is not None:
        remedy = "Leave one of them out"
        raise CorpusError(Problem("not together with --check", "--describe", None, remedy))
    folder = str(storage.local_folder(arguments.corpus, "CORPUS"))
    if arguments.check:
        problems = write.check_card(folder)
        for problem in problems:
            print(problem)
        state = counted(len(problems), "part") + " of the card stale" if problems else "ok"
        print(f"{folder}: {state}")
        return EXIT_USER_ERROR if problems else EXIT_DONE
    describe = None if arguments.describe is None else Path(arguments.describe)
    missing = write.write_card(folder, describe)
    names = (write.README_NAME, write.STATEMENT_NAME, write.CROISSANT_NAME)
    print(f"Wrote {', '.join(storage.join(folder, name) for name in names)}")
    if missing:
        print(f"TODO, to be said in card.yaml: {', '.join(missing)}")
    return EXIT_DONE
