"""Work that is killed in the middle, at an event that Python audits."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

Counts = Callable[[str, tuple[Any, ...]], bool]
"""Whether an event is one of those that are counted, by its name and arguments."""


def killed_at(number: int, work: Callable[[], object], counts: Counts) -> bool:
    """Do the work in a child that is killed before the event of this number, from 1.

    Returns:
        Whether it was killed; otherwise the work had fewer such events, or has failed.
    """
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(name: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if counts(name, arguments):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            work()
        finally:  # the child must not go on with the tests
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
