"""The command line as a whole."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    "select": "launch/select_data.py", "submit": "slurm/submit", "jobs": "slurm/status",
}  # fmt: skip
"""Scripts of other names: `select.py` would hide a standard module from the scripts beside it, and
those of the folder slurm are typed without an ending."""


def test_the_overview_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    module = importlib.import_module(f"headrace.commands.{name}")
    assert module.EXAMPLE in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_thin_script(name):
    names = [SCRIPTS[name]] if name in SCRIPTS else [f"shards/{name}.py", f"launch/{name}.py"]
    (script,) = [ROOT / path for path in names if (ROOT / path).exists()]
    assert f'main(["{name}", *sys.argv[1:]])' in script.read_text(encoding="utf-8")


def test_an_unknown_command_is_met_with_a_suggestion(capsys):
    assert main(["trian"]) == 2
    assert "'train'" in capsys.readouterr().err


def test_a_users_mistake_is_printed_without_a_traceback(capsys, tmp_path):
    assert main(["train", "--ds_config", str(tmp_path / "nowhere.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "nowhere.json" in error
    assert "Traceback" not in error


def test_a_closed_pipe_is_no_traceback(small_corpus):
    command = (
        f"{sys.executable} -m headrace.cli preview {small_corpus.source('en', 'train')} -n 150"
    )
    finished = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, text=True
    )
    assert finished.returncode in {0, 141}
    assert finished.stderr == ""


def test_a_terminal_without_unicode_shows_escapes(small_corpus):
    environment = {
        **os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
    }  # fmt: skip
    finished = subprocess.run(
        [sys.executable, "-m", "headrace.cli", "preview", small_corpus.source("hi", "train")],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert "\\u09" in finished.stdout


@pytest.mark.parametrize("output", ["s3://bucket/run", "memory://run", ""])
def test_a_run_folder_is_local(small_corpus, tmp_path, capsys, output):
    config = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    arguments = ["train", "--ds_config", str(config), "--dry-run", "--ranks", "1"]
    assert main([*arguments, "--set", f'headrace.output="{output}"']) == 2
    assert "headrace.output" in capsys.readouterr().err


@pytest.mark.parametrize("ranks", ["0", "-3"])
def test_ranks_are_counted_from_one(small_corpus, tmp_path, capsys, ranks):
    config = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    assert main(["train", "--ds_config", str(config), "--dry-run", "--ranks", ranks]) == 2
    assert "--ranks" in capsys.readouterr().err
