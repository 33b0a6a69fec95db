"""Where this process is in the code, as Python sees it from another thread."""

from __future__ import annotations

import faulthandler
import sys
import threading
from pathlib import Path
from types import FrameType

_COLLECTIVES = ("/torch/distributed/distributed_c10d.py",)
_WAITS = ("/deepspeed/", "/torch/distributed/")
"""Where a function named ``wait`` waits for a collective that was begun before."""
_PACKAGE = f"{Path(__file__).parents[2]}/"
_WATCH = f"{Path(__file__).parent}/"
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python", "<frozen")


def position_of_main_thread() -> tuple[str | None, str | None]:
    """The collective that the main thread waits in, and its place in the code.

    The place is the innermost frame that is not a library's.  A collective is seen where a Python
    function of torch or DeepSpeed waits for it; NCCL's run on the GPU, and the main thread waits
    for them where it next needs a number.
    """
    ident = threading.main_thread().ident
    frame = None if ident is None else sys._current_frames().get(ident)
    collective = place = None
    while frame is not None and (place is None or collective is None):
        collective = collective or _collective(frame)
        if place is None and _is_own(frame.f_code.co_filename):
            place = _place(frame)
        frame = frame.f_back
    return collective, place


def _collective(frame: FrameType) -> str | None:
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    if file.endswith(_COLLECTIVES) and not name.startswith("_"):
        return name.replace("_", "-")
    if name == "wait" and any(part in file for part in _WAITS):
        return "collective"
    return None


def _is_own(file: str) -> bool:
    if file.startswith(_PACKAGE):
        return not file.startswith(_WATCH)
    return not any(part in file for part in _LIBRARIES)


def _place(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_lineno} ({frame.f_code.co_name})"


def write_stacks(path: Path, title: str) -> None:
    """Write the Python stacks of all threads to a file, under a line that says why."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{title}\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
        file.write("\n")
