from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import textwrap

from headrace.stream.progress import Progress


def test_a_process_forked_from_one_with_busy_threads_can_make_a_stream() -> None:
    """A copy by several threads would wait for ever: a forked process has none of them."""
    script = """
        import multiprocessing
        import torch
        from headrace.stream.progress import Progress

        torch.set_num_threads(2)
        torch.ones(1 << 22).add(1)
        child = multiprocessing.get_context("fork").Process(target=Progress)
        child.start()
        child.join(60)
        print(child.exitcode)
        child.kill()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "0\n", done.stderr


def test_a_copy_is_apart_and_shared_with_workers_of_its_own() -> None:
    first = Progress()
    first.move(5)
    copy: Progress = pickle.loads(pickle.dumps(first))
    assert copy.moved_to == 5
    worker = multiprocessing.get_context("fork").Process(target=copy.finish, args=(0, 1, 9))
    worker.start()
    worker.join()
    assert (first.finished, copy.finished) == (0, 9)
