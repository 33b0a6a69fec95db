"""DeepSpeed's compiled shared-memory collective: built once, skipped where it cannot be built.

DeepSpeed compiles the op inside ``init_distributed`` and torch guards the build with a lock file.
A process that is killed while compiling leaves that lock behind, and every later run waits for it
for ever.  All builds go through :func:`prepare` here, which holds a lock of the operating system
(released when its owner dies); a lock file that is found while holding it is therefore stale.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

from filelock import FileLock

logger = logging.getLogger(__name__)

SHARED_MEMORY_OP = "deepspeed_shm_comm"
"""Its name, and that of its folder."""


def extensions_dir() -> Path:
    """Return the folder for compiled extensions: ``TORCH_EXTENSIONS_DIR`` or a folder of our own.

    Our own folder is named after the versions of Python and torch, since a build for one does not
    load in another.
    """
    configured = os.environ.get("TORCH_EXTENSIONS_DIR")
    if configured:
        return Path(configured)
    from importlib.metadata import version

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return cache / "headrace" / "extensions" / f"{python}-torch{version('torch')}"


def prepare() -> bool:
    """Make the shared-memory op loadable in this process, or tell DeepSpeed to do without it.

    Returns:
        Whether the op is loaded.  It is not where there is no C++ compiler, on a GPU (NCCL does
        this work there), or where the build fails; gloo is used then, and nothing else changes.
    """
    folder = extensions_dir()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)

    import deepspeed
    from deepspeed.accelerator import get_accelerator

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is None or not deepspeed.ops.__compatible_ops__.get(SHARED_MEMORY_OP, False):
        return False
    compiler = os.environ.get("CXX", "c++")
    built = (folder / SHARED_MEMORY_OP / f"{SHARED_MEMORY_OP}.so").exists()
    if shutil.which(compiler) is None:
        # torch asks the compiler for its version even when nothing is left to compile
        deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
        logger.info("no C++ compiler (%s): gloo without the shared-memory op", compiler)
        return False
    with FileLock(folder / f"{SHARED_MEMORY_OP}.build.lock"):
        stale = folder / SHARED_MEMORY_OP / "lock"
        if stale.exists():
            logger.warning("removing a stale build lock: %s", stale)
            stale.unlink()
        if not built:
            logger.info("compiling DeepSpeed's shared-memory op into %s (once)", folder)
        try:
            builder.load(verbose=False)
        except Exception as error:  # the compiler's failures have many types
            deepspeed.ops.__compatible_ops__[SHARED_MEMORY_OP] = False
            logger.warning("the shared-memory op was not built, using gloo alone: %s", error)
            return False
    return True


def release_names(rank: int) -> None:
    """Take this rank's shared memory of the op out of the file system; its mappings stay.

    DeepSpeed never removes these buffers, 66 MiB a rank: every run would leave them in the memory
    of the machine.  Call it when all ranks have mapped them: from then on they are freed when the
    last process ends, however it ends.
    """
    master = "_".join(os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT"))
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_{master}_{rank}"
    (Path("/dev/shm") / name).unlink(missing_ok=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print("shared-memory op:", "ready" if prepare() else "not available, gloo is used")
