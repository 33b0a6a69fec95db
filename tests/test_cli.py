"""The command line as a whole."""

import importlib
from pathlib import Path

import pytest

from headrace.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]


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
    scripts = [ROOT / folder / f"{name}.py" for folder in ("shards", "launch")]
    (script,) = [path for path in scripts if path.exists()]
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
