"""``headrace select`` in a process that is killed on the way: ``MOMENT NUMBER RANK ARGUMENTS...``.

``after``: when a file of the checkpoint is written; ``during``: before it is renamed into place;
``between``: when the solver asks whether it is time to write one; ``never``.
"""

import os
import signal
import sys
from pathlib import Path

from headrace.cli import main
from headrace.selection.checkpoint import Checkpoint, Stage


def dying(function, number, *, first, applies=lambda *arguments: True):
    """The function, which kills the process at a call: before it is carried out, or after it."""
    calls = 0

    def called(*arguments):
        nonlocal calls
        calls += applies(*arguments)
        if first and calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return called


if __name__ == "__main__":
    moment, number, rank, *arguments = sys.argv[1:]
    if os.environ.get("RANK", "0") == rank:
        if moment == "after":
            Checkpoint.write = dying(Checkpoint.write, int(number), first=False)
        elif moment == "during":
            Path.replace = dying(
                Path.replace, int(number), first=True,
                applies=lambda _, target: Path(target).parent.name == ".checkpoint",
            )  # fmt: skip
        elif moment == "between":
            Stage.due = dying(Stage.due, int(number), first=True)
    sys.exit(main(arguments))
