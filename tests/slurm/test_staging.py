"""Compiled extensions on a disk of the node."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.slurm.staging import copy_extensions
from headrace.training.extensions import SHARED_MEMORY_OP, extensions_dir

ROOT = Path(__file__).parents[2]


@pytest.fixture
def built(tmp_path):
    """A folder as torch's builds leave it."""
    folder = tmp_path / "shared" / "op"
    folder.mkdir(parents=True)
    (folder / "op.so").write_bytes(os.urandom(100_000))
    (folder / "build.ninja").write_text("rule\n")
    (folder / "lock").touch()
    (folder.parent / "op.build.lock").touch()
    os.utime(folder / "op.so", (1e9, 1e9))
    return folder.parent


def test_a_copy_has_the_same_bytes_and_times_but_no_locks(built, tmp_path):
    copy = copy_extensions(built, tmp_path / "node")
    assert (copy / "op" / "op.so").read_bytes() == (built / "op" / "op.so").read_bytes()
    assert (copy / "op" / "op.so").stat().st_mtime == 1e9
    assert sorted(path.name for path in copy.rglob("*") if path.is_file()) == [
        "build.ninja", "op.so",
    ]  # fmt: skip


def test_what_is_in_use_is_not_replaced(built, tmp_path):
    first = copy_extensions(built, tmp_path / "node")
    assert copy_extensions(built, tmp_path / "node") == first
    (built / "op" / "op.so").write_bytes(b"compiled again")
    second = copy_extensions(built, tmp_path / "node")
    assert second != first
    assert first.is_dir()
    assert (second / "op" / "op.so").read_bytes() == b"compiled again"


def test_what_a_killed_process_left_is_no_copy(built, tmp_path):
    name = copy_extensions(built, tmp_path / "node").name
    (tmp_path / "node" / name).rename(tmp_path / "node" / f".{name}.part")
    (tmp_path / "node" / f".{name}.part" / "op" / "op.so").write_bytes(b"half")
    copy = copy_extensions(built, tmp_path / "node")
    assert (copy / "op" / "op.so").stat().st_size == 100_000


def folder_of_a_rank(built, scratch):
    """What a rank has as TORCH_EXTENSIONS_DIR."""
    command = ["bash", str(ROOT / "slurm" / "rank.sh"), "bash", "-c", "echo $TORCH_EXTENSIONS_DIR"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **os.environ, "PATH": path, "TORCH_EXTENSIONS_DIR": str(built),
        "HEADRACE_LOCAL_SCRATCH": str(scratch),
    }  # fmt: skip
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip(), finished.stderr


def test_ranks_get_the_copy_and_where_there_can_be_none_the_shared_folder(built, tmp_path):
    folder, _ = folder_of_a_rank(built, tmp_path / "node")
    assert folder == str(copy_extensions(built, tmp_path / "node"))
    (tmp_path / "file").touch()
    folder, said = folder_of_a_rank(built, tmp_path / "file" / "node")
    assert folder == str(built)
    assert "no copy of the extensions on this node" in said


@pytest.mark.slow
@pytest.mark.extended
def test_the_copy_is_loaded_and_not_compiled_again(tmp_path):
    built = extensions_dir()
    op = Path(SHARED_MEMORY_OP) / f"{SHARED_MEMORY_OP}.so"
    if not (built / op).exists() or not shutil.which("c++"):
        pytest.skip("the op is not compiled here: python -m headrace.training.extensions")
    copy = copy_extensions(built, tmp_path)
    before = (copy / op).stat().st_mtime_ns
    finished = subprocess.run(
        [sys.executable, "-m", "headrace.training.extensions"],
        env={**os.environ, "TORCH_EXTENSIONS_DIR": str(copy)}, capture_output=True, text=True,
    )  # fmt: skip
    assert "ready" in finished.stdout, finished.stderr
    assert (copy / op).stat().st_mtime_ns == before
