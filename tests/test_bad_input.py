"""What users get wrong: one clear message each, exit code 2, no traceback, nothing half-written.

Runs are checked with ``--dry-run``, which makes the same checks as a start; ``test_kill.py`` shows
a start by real ranks.
"""

import json
import shutil

import pytest

from headrace.cli import main

GOOD = "# id a\tdomain=en\nada _ _ B-Scientist\nlovelace _ _ I-Scientist\nwrote _ _ O\n\n"


@pytest.fixture
def fails(capsys):
    """Run a command, expect exit code 2 and return its error lines."""

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert lines
        return "\n".join(lines)

    return run


CORPORA = {
    "wrong column count": (GOOD + "# id b\tdomain=en\nada _ B-Scientist\n\n", ":7:"),
    "I- without B-": (GOOD + "# id b\tdomain=en\nada _ _ I-Scientist\n\n", ":7:"),
    "unknown tag": (GOOD + "# id b\tdomain=en\nada _ _ B-Scientits\n\n", ":7:"),
    "empty file": ("", "bad.conll"),
    "windows line ends": (GOOD.replace("\n", "\r\n"), "bad.conll"),
    "byte order mark": ("\ufeff" + GOOD, ":1:"),
    "duplicate key": (GOOD + GOOD.replace("wrote", "read"), ":6"),
}


@pytest.mark.parametrize("mistake", [*CORPORA, "not UTF-8"])
def test_malformed_conll(mistake, fails, tmp_path):
    text, where = CORPORA.get(mistake, (GOOD, ":2"))
    file = tmp_path / "bad.conll"
    encoding = "utf-8"
    if mistake == "not UTF-8":
        text, encoding = GOOD.replace("ada", "adé"), "latin-1"
    file.write_bytes(text.encode(encoding))
    output = tmp_path / "shards"
    message = fails(
        "build", file, "--output", output, "--language", "en", "--labels", "multiconer_v2"
    )
    assert where in message
    assert "bad.conll" in message
    assert not output.exists(), "nothing may be written"


@pytest.fixture
def dry_run(small_corpus, fails, tmp_path):
    def run(**changes):
        config = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **changes)
        message = fails("train", "--ds_config", config, "--dry-run", "--ranks", "2")
        assert not (tmp_path / "run").exists()
        return message

    return run


def damaged_copy(small_corpus, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(small_corpus.source("en", "train"), folder)
    tars = sorted(folder.glob("*.tar"))
    damage(tars[1])
    return str(folder)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda tar: tar.unlink(), "missing"),
        (lambda tar: tar.write_bytes(b""), ""),
        (lambda tar: tar.write_bytes(tar.read_bytes()[:5000]), "5,000"),
    ],
    ids=["missing shard", "empty shard", "truncated tar"],
)
def test_damaged_shards_are_named(damage, says, dry_run, small_corpus, tmp_path):
    source = damaged_copy(small_corpus, tmp_path, damage)
    message = dry_run(**{"headrace.data.train.en": source})
    assert sorted((tmp_path / "damaged").glob("*.idx"))[1].stem in message
    assert says.replace(",", "") in message.replace(",", "")


def test_an_unknown_tokenizer_is_named_with_its_place(dry_run, tmp_path):
    message = dry_run(**{"headrace.model.tokenizer": str(tmp_path / "no-tokenizer")})
    assert "no-tokenizer" in message


def test_a_label_file_that_lacks_a_type_is_met_before_training(dry_run, tmp_path):
    from headrace.tasks.labels import load_label_set

    full = load_label_set("multiconer_v2")
    types = {name: full.coarse[name] for name in full.types if name != "Scientist"}
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"name": "mine", "types": types}))
    message = dry_run(**{"headrace.task.labels": str(file)})
    assert "Scientist" in message


def test_all_missing_sources_are_reported_together(dry_run, tmp_path):
    message = dry_run(
        **{
            "headrace.data.train.en": str(tmp_path / "nowhere"),
            "headrace.data.validation.hi": str(tmp_path / "neither"),
        }
    )
    assert "nowhere" in message
    assert "neither" in message


def test_a_batch_that_does_not_divide_is_explained(dry_run):
    message = dry_run(**{"train_batch_size": 15, "train_micro_batch_size_per_gpu": 4})
    assert "train_batch_size" in message
    assert "2 x 4" in message
    assert "multiple of 8" in message


def test_an_unknown_first_stage_is_met_with_a_suggestion(dry_run):
    message = dry_run(**{"headrace.stages": [
        {"name": "first"}, {"name": "second", "start_from": "frist"}]})  # fmt: skip
    assert "headrace.stages.1.start_from" in message
    assert "'first'" in message


def test_no_validation_data_is_refused_where_it_is_needed(dry_run):
    message = dry_run(**{"headrace.data.validation": {}})
    assert "headrace.data.validation" in message
    assert "keep_best" in message


def test_an_unknown_model_type_is_named(dry_run):
    message = dry_run(**{"headrace.model.config.model_type": "bret"})
    assert "headrace.model.config" in message
    assert "bret" in message


def test_a_length_beyond_the_models_positions_is_refused(dry_run):
    message = dry_run(**{"headrace.task.max_length": 65})
    assert "headrace.task.max_length" in message
    assert "64" in message


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("hiden_size", 64, "hidden_size"),
        ("hidden_size", "wide", "headrace.model.config"),
        ("num_attention_heads", 3, "headrace.model.config"),
        ("hidden_act", "gelux", "headrace.model.config"),
        ("vocab_size", 100, "vocabulary"),
    ],
)
def test_a_model_that_cannot_be_made_is_met_before_training(key, value, says, dry_run):
    assert says in dry_run(**{f"headrace.model.config.{key}": value})
