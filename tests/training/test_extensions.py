"""The compiled collective: skipped without a compiler, never waited for behind a stale lock."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.training.extensions import extensions_dir


def prepare(environment):
    return subprocess.run(
        [sys.executable, "-m", "headrace.training.extensions"],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def test_without_a_compiler_gloo_is_used(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    environment = {**os.environ, "PATH": str(folder), "TORCH_EXTENSIONS_DIR": str(tmp_path / "ext")}
    environment.pop("CXX", None)
    finished = prepare(environment)
    assert finished.returncode == 0, finished.stderr
    assert "not available, gloo is used" in finished.stdout
    assert "no C++ compiler" in finished.stderr


@pytest.mark.slow
@pytest.mark.extended
def test_a_stale_lock_is_removed(tmp_path):
    """The lock of a process that was killed while compiling; torch would wait for it for ever."""
    import shutil

    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler here")
    built = extensions_dir() / "deepspeed_shm_comm"
    copy = tmp_path / "deepspeed_shm_comm"
    if built.exists():
        shutil.copytree(built, copy)
    else:
        copy.mkdir()
    (copy / "lock").touch()
    finished = prepare({**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path)})
    assert finished.returncode == 0, finished.stderr
    assert "ready" in finished.stdout
    assert "removing a stale build lock" in finished.stderr
    assert not (copy / "lock").exists()


@pytest.mark.slow
def test_ranks_that_are_killed_leave_no_shared_memory(launcher, tmp_path):
    def left() -> set[str]:
        own = f"deepspeed_allreduce_buffer_{os.getuid()}_127.0.0.1_{port}_*"
        return {path.name for path in Path("/dev/shm").glob(own)}

    script = Path(__file__).parent / "workers" / "killed_rank.py"
    launched = launcher.start(script, log=tmp_path / "log")
    port = launched.args[launched.args.index("--master_port") + 1]
    assert launched.wait(500) != 0
    printed = (tmp_path / "log").read_text()
    assert "AssertionError" not in printed
    assert "exits with return code = -9" in printed
    assert left() == set()


def test_our_folder_is_named_after_the_versions(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = extensions_dir()
    assert folder.is_relative_to(Path(tmp_path) / "headrace")
    assert f"py{sys.version_info.major}{sys.version_info.minor}" in folder.name
