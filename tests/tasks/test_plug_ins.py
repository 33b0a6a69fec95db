"""The task of the documentation, installed as a package would be, and packages that are wrong."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.config import load_run_config
from headrace.config.plug_ins import plug_in_names, plug_in_task
from headrace.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "plug_in_tasks.md"


def install(folder, name, code, target):
    """What ``pip install`` leaves of a package of one module with an entry point."""
    module = target.partition(":")[0]
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    facts = folder / f"{module}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[headrace.tasks]\n{name} = {target}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path; what was loaded from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
    yield folder
    plug_in_task.cache_clear()
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def documented(site):
    """The package of the page."""
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (name, target) = re.search(r'^(\w+) = "(\w+:\w+)"$', text, re.MULTILINE).groups()
    install(site, name, code, target)
    return name


def write(small_corpus, folder, task, **changes):
    settings = {"headrace.task": task, "headrace.stages": [{"name": "a", "max_steps": 12}]}
    return small_corpus.write_config(folder / "run.json", folder / "run", **settings, **changes)


def test_the_documented_task_trains_is_scored_and_reported(
    documented, small_corpus, world, tmp_path, capsys
):
    from headrace.training.run import train_in_group
    from headrace.training.signals import StopFlag
    from headrace.training.stages import expand_stages

    assert plug_in_names() == ["which_language"]
    path = write(small_corpus, tmp_path, {"type": documented, "max_length": 24})
    config = load_run_config(path)
    assert config.headrace.task.max_length == 24
    assert config.resolved()["headrace"]["task"] == {"type": documented, "max_length": 24}
    train_in_group(config, expand_stages(config), world, StopFlag())
    results = json.loads((config.output / "results.json").read_text())
    metrics = results["stages"][0]["metrics"]
    assert set(metrics) == {"en", "hi", "zh"}
    assert metrics["en"]["chance"] == pytest.approx(1 / 3)
    assert results["scores"]["accuracy"]["title"] == "Accuracy"
    export = config.output / "a/all/export"
    data = [f"{name}={small_corpus.source(name, 'dev')}" for name in ("en", "zh")]
    scores = tmp_path / "scores.json"
    command = ["evaluate", str(export), "--cache", str(tmp_path), "--json", str(scores)]
    assert main([*command, "--data", *data]) == 0
    assert "Accuracy" in capsys.readouterr().out
    found = json.loads(scores.read_text())["languages"]
    for language in ("en", "zh"):
        assert found[language]["metrics"]["accuracy"] == metrics[language]["accuracy"]
    assert main(["report", str(config.output)]) == 0
    assert "| Language | Accuracy |" in (config.output / "results.md").read_text()
    command = ["predict", str(export), "--input", data[0].partition("=")[2]]
    assert main([*command, "--output", str(tmp_path / "out.jsonl")]) == 2
    assert "has no predictions of this kind" in capsys.readouterr().err


def test_problems_of_its_section_are_those_of_any_section(documented, small_corpus, tmp_path):
    path = write(small_corpus, tmp_path, {"type": documented, "max_lenght": 24, "max_length": 2})
    with pytest.raises(ConfigError) as caught:
        load_run_config(path)
    problems = {problem.where: problem for problem in caught.value.problems}
    assert "max_length" in problems["headrace.task.max_lenght"].remedy
    assert "greater than or equal to 8" in problems["headrace.task.max_length"].what


def test_an_unknown_type_lists_all_tasks(documented, small_corpus, tmp_path):
    path = write(small_corpus, tmp_path, {"type": "nonsense"})
    with pytest.raises(ConfigError) as caught:
        load_run_config(path)
    (problem,) = caught.value.problems
    assert problem.where == "headrace.task.type"
    for name in ("causal_lm", "masked_lm", "token_classification", "which_language"):
        assert name in problem.remedy
    path = write(small_corpus, tmp_path, {"type": "which_languages"})
    with pytest.raises(ConfigError, match="Did you mean 'which_language'"):
        load_run_config(path)


def test_shards_are_encoded_for_it(documented, small_corpus, tmp_path, capsys):
    command = ["encode", small_corpus.source("zh", "dev"), "--tokenizer",
               str(small_corpus.tokenizer), "--cache", str(tmp_path)]  # fmt: skip
    assert main([*command, "--task", documented]) == 0
    assert "sequences" in capsys.readouterr().out
    assert main([*command, "--task", "which_tongue"]) == 2
    assert "which_language" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('out of order')", "cannot be imported: RuntimeError: out of order"),
        ("Other = 3", "not a task of this name"),
        ("from headrace.tasks.multiple_choice import MultipleChoice as Other", "not a task of"),
        ("", "cannot be imported: AttributeError"),
    ],
)
def test_a_package_that_is_wrong_is_named(site, small_corpus, tmp_path, code, words):
    install(site, "other", code, "broken_package:Other")
    path = write(small_corpus, tmp_path, {"type": "other"})
    with pytest.raises(ConfigError) as caught:
        load_run_config(path)
    (problem,) = caught.value.problems
    assert words in problem.what
    assert "broken_package" in problem.value


def test_two_packages_with_one_task_are_refused(site, small_corpus, tmp_path):
    install(site, "other", "", "first_package:Other")
    install(site, "other", "", "second_package:Other")
    path = write(small_corpus, tmp_path, {"type": "other"})
    with pytest.raises(ConfigError, match=r"several packages.*first_package.*second_package"):
        load_run_config(path)
