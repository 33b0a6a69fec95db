"""Samples that a run chooses for itself before it trains."""

import importlib.metadata
import json
import logging
import shutil
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.config import load_run_config
from headrace.errors import StopRequested, UserError
from headrace.training.dry_run import show_plan
from headrace.training.run import train_in_group
from headrace.training.select_only import choose_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

STAGE = {"name": "all", "epochs": 2, "keep_best": "last"}


@pytest.fixture
def write_config(small_corpus, small_encoder, tmp_path):
    """A run with a selection of a fifth; cache and vectors are those of the test."""

    def write(name, selection=None, **changes):
        section = {
            "fraction": 0.2,
            "proportional": True,
            "embedding": {"model": str(small_encoder), "max_length": 48},
            "objective": {"graph_cut": {"lambda": 1}},
            "cache_dir": str(tmp_path / "cache"),
            **(selection or {}),
        }
        section = {key: value for key, value in section.items() if value is not None}
        path = small_corpus.write_config(
            tmp_path / f"{name}.json",
            tmp_path / name,
            **{"headrace.selection": section, "headrace.stages": [STAGE], **changes},
        )
        return str(path)

    return write


def train(path, world, flag=None):
    config = load_run_config(path)
    train_in_group(config, expand_stages(config), world, flag or StopFlag())
    return config


def selections(tmp_path):
    return sorted(path for path in (tmp_path / "cache" / "selections").glob("*") if path.is_dir())


def problems_of(path, world):
    with pytest.raises(UserError) as caught:
        train(path, world)
    return [str(problem) for problem in caught.value.problems]


def test_a_run_trains_on_what_the_command_chooses(
    write_config, small_corpus, small_encoder, world, tmp_path, read_losses
):
    sources = [f"{name}={small_corpus.source(name, 'train')}" for name in small_corpus.languages]
    assert main([
        "select", *sources, "--encoder", str(small_encoder), "--max-length", "48",
        "--fraction", "0.2", "--proportional", "--trade-off", "1",
        "--cache", str(tmp_path / "other cache"), "--output", str(tmp_path / "selected"),
    ]) == 0  # fmt: skip
    changes = {"headrace.selection": None, "headrace.data.selection": str(tmp_path / "selected")}
    train(write_config("named", **changes), world)
    train(write_config("own"), world)
    assert read_losses(tmp_path / "own") == read_losses(tmp_path / "named")
    (folder,) = selections(tmp_path)
    same = (tmp_path / "selected" / "selection.parquet").read_bytes()
    assert (folder / "selection.parquet").read_bytes() == same
    note = json.loads((tmp_path / "own" / "selection.json").read_text())
    assert note["folder"] == str(folder)
    assert note["fingerprint"] == folder.name
    assert note["chosen"] == 60


def test_a_second_run_chooses_nothing_anew(write_config, world, tmp_path, caplog, monkeypatch):
    train(write_config("first"), world)
    # neither vectors nor a choice: only the finished selection is left
    for path in (tmp_path / "cache").iterdir():
        if path.name != "selections":
            shutil.rmtree(path)

    def refuse(*arguments, **settings):
        raise AssertionError("nothing is to be embedded")

    monkeypatch.setattr("headrace.selection.job.Task.embedded", refuse)
    with caplog.at_level(logging.INFO):
        train(write_config("second", **{"headrace.seed": 9}), world)
    (folder,) = selections(tmp_path)
    assert f"selection: 60 of 300 samples, {folder}" in caplog.text


def test_samples_can_be_chosen_ahead_of_the_training(write_config, world, tmp_path, caplog):
    path = write_config("run")
    config = load_run_config(path)
    choose_in_group(config, expand_stages(config), world, StopFlag())
    (folder,) = selections(tmp_path)
    assert not (tmp_path / "run").exists(), "nothing is trained"
    made = (folder / "selection.parquet").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        train(path, world)
    assert f"selection: 60 of 300 samples, {folder}" in caplog.text
    assert (folder / "selection.parquet").stat().st_mtime_ns == made


def test_nothing_can_be_chosen_without_a_section(write_config, capsys):
    path = write_config("run", **{"headrace.selection": None})
    assert main(["train", "--ds_config", path, "--select-only"]) == 2
    assert "headrace.selection: nothing is to be chosen" in capsys.readouterr().err
    assert main(["submit", "select", path, "--dry-run"]) == 2
    assert "headrace.selection: nothing is to be chosen" in capsys.readouterr().err


def test_stages_may_train_on_all_samples(write_config, world, read_losses, tmp_path):
    stages = [
        {"name": "chosen", "epochs": 1, "keep_best": "last"},
        {"name": "everything", "epochs": 1, "keep_best": "last", "samples": "all"},
    ]
    train(write_config("both", **{"headrace.stages": stages}), world)
    only = {"headrace.selection": None, "headrace.stages": stages[1:]}
    train(write_config("only", **only), world)
    found = read_losses(tmp_path / "both")
    # 60 and 300 samples in batches of 16
    steps = [key[0] for key in found if key[3] == "train"]
    assert (steps.count("chosen"), steps.count("everything")) == (4, 19)
    whole = {key: loss for key, loss in found.items() if key[0] == "everything"}
    assert whole == read_losses(tmp_path / "only")


def test_a_stage_on_all_samples_needs_no_selection(write_config, world, tmp_path):
    stages = [{**STAGE, "samples": "all"}]
    train(write_config("all", **{"headrace.stages": stages}), world)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "all" / "selection.json").exists()


def test_a_damaged_selection_is_made_again(write_config, world, tmp_path, caplog, read_losses):
    train(write_config("first"), world)
    (folder,) = selections(tmp_path)
    whole = (folder / "selection.parquet").read_bytes()
    (folder / "selection.parquet").write_bytes(whole[:-9])
    with caplog.at_level(logging.WARNING):
        train(write_config("second"), world)
    assert "chosen again" in caplog.text
    assert (folder / "selection.parquet").read_bytes() == whole
    assert read_losses(tmp_path / "second") == read_losses(tmp_path / "first")


def test_a_run_folder_refuses_another_selection(write_config, world, tmp_path):
    train(write_config("run"), world)
    problems = problems_of(write_config("run", {"fraction": 0.3}), world)
    assert any(problem.startswith("headrace.selection.fraction: was ") for problem in problems)


def test_a_run_folder_refuses_another_encoder_of_the_same_name(
    write_config, small_encoder, world, tmp_path
):
    copy = tmp_path / "encoder"
    shutil.copytree(small_encoder, copy)
    section = {"embedding": {"model": str(copy), "max_length": 48}}
    train(write_config("run", section), world)
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(
        text.replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-3')
    )
    (problem,) = problems_of(write_config("run", section), world)
    assert "started with another selection" in problem


def test_a_stop_signal_before_and_while_it_chooses(write_config, world, tmp_path, stop_after):
    path = write_config("run")
    for looks in (0, 1, 5):
        with pytest.raises(StopRequested, match="while samples were chosen"):
            train(path, world, stop_after(looks))
        assert not (tmp_path / "run").exists()
        assert not any((folder / "selection.json").exists() for folder in selections(tmp_path))
    train(path, world)
    assert (tmp_path / "run" / "results.json").exists()


def test_a_trade_off_past_the_knee_is_warned_of(write_config, world, caplog):
    section = {"objective": {"graph_cut": {"lambda": 10}}}
    with caplog.at_level(logging.WARNING):
        train(write_config("run", section), world)
    assert "lambda 10 is too large for 60 of 300 rows" in caplog.text
    assert "take headrace.selection.objective.graph_cut.lambda balanced" in caplog.text


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ({"fraction": None, "rows": 301}, ["headrace.selection.rows: out of range"]),
        (
            {"fraction": None, "rows": 100, "proportional": None, "minimum": {"en": 151}},
            [
                "headrace.selection.minimum.en: the group has 150 rows",
                "headrace.selection.minimum: ",
            ],
        ),
        (
            {"embedding": {"model": "/no/such/folder"}, "method": "lazy_greedy"},
            ["headrace.selection.embedding.model", "headrace.selection.method: not a method"],
        ),
        ({"method": "lazy_greedy"}, ["headrace.selection.method: not a method for graph_cut"]),
        (
            {"required": "/no/such/file"},
            ["headrace.selection.required"],
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused_before_any_work(
    write_config, world, tmp_path, section, found
):
    path = write_config("run", section, **{"headrace.stages": [{**STAGE, "epochs": 3}]})
    problems = problems_of(path, world)
    assert len(problems) == len(found), problems
    assert all(problem.startswith(start) for problem, start in zip(problems, found, strict=True))
    assert not (tmp_path / "run").exists()
    assert not selections(tmp_path)


@pytest.mark.parametrize(
    "section",
    [
        {"objective": {"graph_cut_hinge": {"lambda": 1, "threshold": 0.9, "neighbours": 8}}},
        {"objective": {"facility_location": {"neighbours": 8}}},
        {"objective": {"graph_cut": {}}, "method": "one_pass", "sample_rows": 100},
        {"embedding": {"doc2vec": {"vector_size": 8, "epochs": 2}}, "method": "random"},
    ],
    ids=["hinge", "facility location", "one pass", "doc2vec"],
)
def test_other_objectives_methods_and_vectors(write_config, world, tmp_path, section):
    train(write_config("run", section), world)
    note = json.loads((tmp_path / "run" / "selection.json").read_text())
    (objective,) = section.get("objective", {"graph_cut": {}})
    assert note["settings"]["objective"] == objective
    assert note["method"] == section.get("method", note["method"])
    assert note["chosen"] == 60


def test_a_missing_package_is_named_before_any_work(write_config, world, tmp_path, monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    path = write_config("run", {"embedding": {"doc2vec": {}}})
    monkeypatch.setattr("headrace.selection.doc2vec.importlib.metadata.version", missing)
    (problem,) = problems_of(path, world)
    assert problem.startswith("headrace.selection.embedding: Doc2Vec needs the package gensim")
    assert "headrace[doc2vec]" in problem
    assert not (tmp_path / "run").exists()


def test_commands_show_all_samples_until_the_choice_is_made(write_config, world, tmp_path, capsys):
    path = write_config("run")
    document = tmp_path / "plan.json"

    def shown():
        show_plan(load_run_config(path))
        text = capsys.readouterr().out
        assert main(["plan", path, "--json", str(document)]) == 0
        plan = json.loads(document.read_text())["branches"][0]
        return text, capsys.readouterr().out, plan

    dry_run, text, plan = shown()
    assert "20 % of 300 samples are chosen when training starts" in dry_run
    assert "the selection is not made yet" in text
    assert plan["awaits_selection"]
    assert plan["samples_per_epoch"] == 300
    assert main(["preview", path]) == 2
    assert "headrace.selection: the selection is not made yet" in capsys.readouterr().err
    assert not selections(tmp_path)

    train(path, world)
    dry_run, text, plan = shown()
    assert f"60 of 300 samples: {selections(tmp_path)[0]}" in dry_run
    assert "8  " in dry_run  # 2 epochs of 4 steps
    assert "not made yet" not in text
    assert not plan["awaits_selection"]
    assert plan["samples_per_epoch"] == 60
    assert main(["preview", path, "-n", "2"]) == 0
    assert "60 samples an epoch" in capsys.readouterr().out


def test_the_shipped_config_trains_on_the_chosen_and_then_on_all(
    small_corpus, small_encoder, world, tmp_path, read_losses
):
    sources = {
        split: json.dumps({name: small_corpus.source(name, short) for name in ("en", "hi")})
        for split, short in (("train", "train"), ("validation", "dev"))
    }
    config = load_run_config(
        Path(__file__).parents[2] / "ds_configs" / "multiconer_selection_small.json",
        [
            *(f"headrace.data.{split}={urls}" for split, urls in sources.items()),
            f"headrace.model.tokenizer={small_corpus.tokenizer}",
            f"headrace.selection.embedding.model={small_encoder}",
            "headrace.selection.embedding.max_length=48",
            f"headrace.selection.cache_dir={tmp_path / 'cache'}",
            f"headrace.data.cache_dir={tmp_path / 'encoded'}",
            f"headrace.output={tmp_path / 'run'}",
            "headrace.stages.0.epochs=2", "headrace.stages.1.epochs=1",
            "headrace.logging.every_steps=1",
        ],
    )  # fmt: skip
    train_in_group(config, expand_stages(config), world, StopFlag())
    note = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert note["trade_off"] == 8
    assert [note["groups"][name]["chosen"] for name in ("en", "hi")] == [15, 9]
    trained = [key[:2] for key in read_losses(tmp_path / "run") if key[3] == "train"]
    # 24 chosen samples in batches of 32; 150 and 90 samples
    assert [trained.count(branch) for branch in dict.fromkeys(trained)] == [2, 5, 3]
