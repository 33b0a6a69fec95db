"""The benchmark of the training loop at a tiny size: what it writes, not how fast it is."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.benchmarks import training
from headrace.benchmarks.frame import environment
from headrace.benchmarks.training_data import write_sources
from headrace.benchmarks.training_setup import Settings
from headrace.cli import main
from headrace.encoding.tokenizer_training import train_tokenizer
from headrace.errors import MissingExtraError
from headrace.shards import ShardReader
from headrace.training.distributed import free_port
from tests.script_files import script

TINY = Settings(("en", "zh"), 90, vocabulary=900, hidden_size=16, layers=1, batch_size=16, rounds=1)
FIGURES = {
    "overhead_vs_bare_loop", "tokens_vs_trainer", "tokens_vs_trainer_grouped", "padding_share",
    "data_wait_share", "max_loss_difference",
}  # fmt: skip
needs_trainer = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("accelerate", "datasets")),
    reason="the comparison with the Trainer needs the extra `bench`",
)


COMMAND = f"""
import sys
from headrace.benchmarks import training
from headrace.benchmarks.training_setup import Settings
from headrace.cli import main
from headrace.encoding.tokenizer_training import train_tokenizer
training.settings = lambda quick: {TINY}
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def finished():
    """The command at the tiny size, in a process of its own: it makes a process group."""
    words = ["benchmark", "training", "--quick", "--rounds", "2", "--json", "-"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def written(finished):
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["sample corpus", "real sentences"])
@pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])
@pytest.mark.parametrize("task", training.GROUPS)
def test_the_vocabulary_is_not_too_large_for_the_sentences(task, quick, real, tmp_path):
    corpora = os.environ.get("HEADRACE_DATA")
    if real and not corpora:
        pytest.skip("HEADRACE_DATA is not set")
    sizes = training.settings(quick)
    folder = Path(corpora) if real and corpora else None
    made = write_sources(task, sizes.languages, sizes.sentences, folder, tmp_path, sizes.seed)
    readers = [ShardReader(str(tmp_path / language)) for language in made.languages]
    train_tokenizer(readers, tmp_path / "tokenizer", sizes.vocabulary)
    assert (tmp_path / "tokenizer").is_dir()


@needs_trainer
@pytest.mark.slow
def test_the_file_has_the_promised_keys(written):
    assert {"name", "command", "environment", "rounds", "rows", "figures"} <= written.keys()
    assert written["name"] == "training"
    assert written["command"] == "headrace benchmark training --quick --rounds 2"
    assert written["environment"].keys() == environment(training.PACKAGES).keys()
    assert written["figures"].keys() >= FIGURES
    assert all(math.isfinite(value) for value in written["figures"].values())
    for row in written["rows"]:
        assert len(row["values"]) == written["rounds"] == 2
        assert row["lowest"] <= row["median"] <= row["highest"]
        assert min(row["values"]) > 0


@needs_trainer
@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", "_masked_lm"])
def test_the_losses_of_the_loop_are_those_of_the_bare_loop(written, suffix):
    assert written["figures"][f"max_loss_difference{suffix}"] < 1e-6


@needs_trainer
@pytest.mark.slow
@pytest.mark.parametrize("task", training.GROUPS)
def test_shares_are_shares_and_grouping_saves_padding(written, task):
    rows = [row for row in written["rows"] if row["group"] == training.GROUPS[task]]
    padding = {row["name"]: row["padding_share"] for row in rows}
    suffix = "" if task == "token_classification" else f"_{task}"
    share = written["figures"][f"padding_share{suffix}"]
    assert padding[training.OURS] == padding[training.BARE] == share
    assert 0 < padding[training.TRAINER_GROUPED] < padding[training.TRAINER] < 1
    assert padding[training.OURS] < padding[training.TRAINER]
    assert 0 <= written["figures"][f"data_wait_share{suffix}"] < 1


@needs_trainer
@pytest.mark.slow
def test_with_json_on_standard_output_the_table_goes_to_the_other(finished, written):
    assert all(f"\n{name} " in finished.stderr for name in written["figures"])
    assert all(f"\n{row['name']} " in finished.stderr for row in written["rows"])


@needs_trainer
@pytest.mark.extended
@pytest.mark.slow
def test_two_ranks_share_the_batches_of_one(written, tmp_path):
    """The bare loop is DistributedDataParallel then; both loops sum up to the loss of a batch."""
    script = tmp_path / "two_ranks.py"
    script.write_text(COMMAND)
    words = ["benchmark", "training", "--quick", "--json", str(tmp_path / "two.json")]
    launcher = [str(Path(sys.executable).parent / "deepspeed"), "--num_gpus", "2", "--master_port"]
    finished = subprocess.run(
        [*launcher, str(free_port()), str(script), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-2000:]
    two = json.loads((tmp_path / "two.json").read_text())
    assert two["setting"]["named entities: ranks"] == "2 on cpu"
    for suffix in ("", "_masked_lm"):
        assert two["figures"][f"max_loss_difference{suffix}"] < 1e-5
        one = written["figures"][f"padding_share{suffix}"]
        assert two["figures"][f"padding_share{suffix}"] <= one, "each rank pads its own part"


def test_the_sentences_are_real_where_there_are_corpora(tmp_path):
    corpora = os.environ.get("HEADRACE_DATA")
    if corpora is None:
        pytest.skip("HEADRACE_DATA is not set")
    for task, languages, each in (("token_classification", 5, 24), ("masked_lm", 12, 10)):
        (tmp_path / task).mkdir()
        made = write_sources(task, ("en",), 24, Path(corpora), tmp_path / task, seed=1)
        assert len(made.languages) == languages
        assert {len(ShardReader(str(tmp_path / task / name))) for name in made.languages} == {each}


def test_without_the_trainers_packages_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "accelerate" else find(name)
    )
    with pytest.raises(MissingExtraError, match=r"headrace\[bench\]") as caught:
        training.measure(TINY, 1)
    assert caught.value.exit_code == 2


def test_mistakes_are_listed_together_with_a_suggestion(capsys):
    assert main(["benchmark", "trainig", "--rounds", "0"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean 'training'?" in error
    assert "--rounds" in error
    assert "Traceback" not in error


def test_a_result_file_that_cannot_be_written_is_found_before_measuring(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["benchmark", "training", "--json", str(tmp_path / "file" / "x.json")]) == 2
    assert "--json" in capsys.readouterr().err


def test_the_page_is_rendered_from_the_result():
    folder = Path(__file__).parents[2] / "docs" / "results"
    result = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    page = (folder / "training.md").read_text(encoding="utf-8")
    assert page == script("training_table").render(result)
