"""``headrace seen``: which steps and checkpoints of a run have seen removed documents."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from headrace.commands.options import counted
from headrace.errors import EXIT_DONE

HELP = "which steps and checkpoints of a run have seen removed, or given, documents"
EXAMPLE = "headrace seen runs/pretraining --json"
_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--id",
        action="append",
        metavar="KEY",
        help="a document by its id, the key of its sample; repeatable (default: all that were "
        "removed from the training data)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Work it out from the plan of the run."""
    from headrace.training.seen import documents_seen

    branches = documents_seen(Path(arguments.run), arguments.id)
    if arguments.json:
        found = {"run": arguments.run, "branches": [branch.as_json() for branch in branches]}
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return EXIT_DONE
    for branch in branches:
        title = f"{branch.stage}/{branch.branch}: {counted(branch.steps, 'step')}"
        if not branch.documents:
            later = f"; it began with the model of {branch.start_from}" if branch.start_from else ""
            print(f"{title}, none of the documents{later}")
            continue
        print(f"{title}, {counted(len(branch.documents), 'document')} seen")
        for document in branch.documents[:_SHOWN]:
            state = "removed since" if document.removed else "still there"
            print(
                f"  {document.language}/{document.key}: {counted(document.steps, 'step')}, "
                f"first {document.first_step}, last {document.last_step} ({state})"
            )
        if len(branch.documents) > _SHOWN:
            print(f"  and {len(branch.documents) - _SHOWN:,} more")
        print(f"  checkpoints that had seen any: {', '.join(branch.checkpoints) or 'none left'}")
        print(f"  exported model: {'had' if branch.exported else 'had not'}")
    return EXIT_DONE
