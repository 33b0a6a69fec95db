"""What a submission asks for, and what it refuses before it asks."""

import json
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.config import load_run_config
from headrace.errors import ConfigError
from headrace.slurm.batch import branches_batch, chain
from headrace.slurm.controller import Controller
from headrace.slurm.directives import Options, directives, minutes_of
from headrace.slurm.site import read_site
from headrace.slurm.submission import sbatch_words, submit

ROOT = Path(__file__).parents[2]
JEAN_ZAY = ROOT / "slurm" / "sites" / "jean_zay_v100.env"


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.env"
    path.write_text('HEADRACE_DIRECTIVES="--time=10 --ntasks-per-node=1"\n')
    return read_site(path)


@pytest.mark.parametrize(
    ("time", "minutes"),
    [
        ("90", 90), ("1:30", 1.5), ("20:00:00", 1200), ("1-12", 2160), ("1-12:30", 2190),
        ("2-00:00:30", 2880.5),
    ],
)  # fmt: skip
def test_time_limits_as_slurm_writes_them(time, minutes):
    assert minutes_of(time) == minutes


@pytest.mark.parametrize("time", ["", "20h", "0", "1:2:3:4", "-1", "UNLIMITED"])
def test_no_time_limits(time):
    with pytest.raises(ValueError):  # noqa: PT011 - the command has a message of its own
        minutes_of(time)


@pytest.mark.parametrize(
    ("nodes", "time", "qos"),
    [
        (1, None, "qos_gpu-t3"),
        (128, "20:00:00", "qos_gpu-t3"),
        (4, "20:00:01", "qos_gpu-t4"),
        (4, "100:00:00", "qos_gpu-t4"),
    ],
)
def test_the_first_qos_with_room_is_asked_for(nodes, time, qos):
    words = directives(read_site(JEAN_ZAY), Options(nodes, time, project="abc"))
    assert f"--qos={qos}" in words
    assert "--account=abc@v100" in words


def test_another_qos_can_be_asked_for():
    site = read_site(JEAN_ZAY)
    options = Options(1, "1:00:00", project="abc", qos="qos_gpu-dev")
    assert [word for word in directives(site, options) if "qos" in word] == ["--qos=qos_gpu-dev"]
    options = Options(1, project="abc", sbatch=("--qos=special",))
    assert [word for word in directives(site, options) if "qos" in word] == ["--qos=special"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(5, "30:00:00", project="abc"), "no QoS of the site has room for it"),
        (Options(1), "asks for a project"),
        (Options(0, project="abc"), "--nodes"),
        (Options(1, "tomorrow", project="abc"), "no time limit"),
        (Options(1, "5", project="abc"), "asked to stop as it starts, 300 s before its end"),
        (Options(1, project="abc", sbatch=("--ntasks-per-node=4",)), "not the tasks"),
        (Options(1, project="abc", sbatch=("--signal=USR1@60",)), "not the signal"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        directives(read_site(JEAN_ZAY), options)


def test_a_short_job_may_be_asked_to_stop_later():
    options = Options(1, "5", project="abc", sbatch=("--signal=B:USR1@60",))
    assert "--signal=B:USR1@60" in directives(read_site(JEAN_ZAY), options)


def test_the_chain_of_a_run(small_corpus, tmp_path, site, at_root):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    config = load_run_config(path)
    batches = chain(str(path), config, ["--set", "headrace.seed=4"])
    assert [(batch.template, batch.title) for batch in batches] == [
        ("train", "multilingual"), ("train_array", "monolingual"), ("evaluate", "evaluation"),
        ("report", "report"),
    ]  # fmt: skip
    train, array, evaluation, _ = batches
    assert train.arguments == (str(path), "--set", "headrace.seed=4", "--stage", "multilingual")
    assert array.tasks == ((1, "monolingual/en"), (2, "monolingual/zh"))
    assert array.lines_text.splitlines()[1].split("\t") == [
        "--ds_config", str(path), "--set", "headrace.seed=4", "--stage", "monolingual",
        "--branch", "zh",
    ]  # fmt: skip
    assert f"zh={small_corpus.source('zh', 'dev')}" in evaluation.arguments
    words = sbatch_words(array, site, Options(3), at_once=1, after="17")
    assert "--array=1-2%1" in words
    assert "--nodes=3" in words
    assert "--dependency=afterok:17" in words
    assert "--nodes=1" in sbatch_words(evaluation, site, Options(3))


def test_what_is_finished_is_left_out(small_corpus, tmp_path):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    config = load_run_config(path)
    for branch in ("multilingual/all", "monolingual/en"):
        (tmp_path / "run" / branch).mkdir(parents=True)
        (tmp_path / "run" / branch / "result.json").touch()
    assert [batch.template for batch in chain(str(path), config, [])] == [
        "train_array", "evaluate", "report",
    ]  # fmt: skip
    array = branches_batch(str(path), config, [], None)
    assert array.tasks == ((2, "monolingual/zh"),), "the numbers of the others stay"
    (tmp_path / "run" / "monolingual" / "zh").mkdir()
    (tmp_path / "run" / "monolingual" / "zh" / "result.json").touch()
    with pytest.raises(ConfigError, match="all of it is finished"):
        branches_batch(str(path), config, [], None)


def test_a_dry_run_checks_shows_and_leaves_no_trace(
    small_corpus, tmp_path, site, at_root, capsys, slurm
):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    arguments = ["submit", "train", str(path), "--site", str(site.path), "--dry-run"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "stage plan" in printed
    assert "sbatch --time=10 --ntasks-per-node=1 --nodes=1 --job-name=run-train" in printed
    assert f"slurm/train.sbatch {path}" in printed
    assert "to start at" in printed, "SLURM itself was asked"
    assert not (tmp_path / "run").exists()
    assert main([*arguments, "--nodes", "3", "--set", "train_batch_size=24"]) == 2
    assert "not available" in capsys.readouterr().out, "there are two nodes"


def test_a_wrong_config_is_refused_before_anything_is_submitted(
    small_corpus, tmp_path, site, at_root, capsys, slurm
):
    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "run", **{"headrace.data.train.hi": "nowhere"}
    )
    before = slurm.run("squeue", "--noheader")
    assert main(["submit", "chain", str(path), "--site", str(site.path)]) == 2
    assert "nowhere" in capsys.readouterr().err
    arguments = ["submit", "train", str(path), "--site", str(site.path), "--nodes", "3"]
    assert main(arguments) == 2
    assert "train_batch_size" in capsys.readouterr().err, "3 ranks do not divide 16"
    assert slurm.run("squeue", "--noheader") == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["report", "--stage", "a"], "--stage"),
        (["chain", "--branch", "hi"], "--branch"),
        (["train", "--seeds", "1,2"], "--grid, --seeds, --output"),
        (["train_array", "--seeds", "1,2"], "a sweep needs a folder"),
        (["train", "--site", "nowhere"], "jean_zay_v100"),
        (["check", "--stage", "a"], "--stage"),
    ],
)
def test_options_without_effect_are_refused(small_corpus, tmp_path, at_root, capsys, words, says):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    assert main(["submit", words[0], str(path), *words[1:]]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [(["train"], "CONFIG: which run?"), (["check", "--set", "a=1"], "no config to change")],
)
def test_a_check_alone_needs_no_config(at_root, capsys, words, says):
    assert main(["submit", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_check_is_a_short_job(small_corpus, tmp_path, site, at_root, capsys):
    words = ["submit", "check", "--site", str(site.path), "--nodes", "3", "--dry-run"]
    main(words)
    printed = capsys.readouterr().out
    assert "--nodes=3 --time=10 --job-name=check-nodes" in printed
    assert printed.split("slurm/check.sbatch")[1].startswith("\n"), "without arguments"
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    main([*words, str(path), "--set", "headrace.seed=4", "--time", "20"])
    printed = capsys.readouterr().out
    assert "--time=20" in printed
    assert f"slurm/check.sbatch --ds_config {path} --set headrace.seed=4" in printed


def test_a_sweep_is_an_array(small_corpus, tmp_path, site, at_root, capsys):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    assert main([
        "submit", "train_array", str(path), "--site", str(site.path), "--seeds", "1,2",
        "--grid", "optimizer.params.lr=1e-3,2e-3", "--output", str(tmp_path / "sweep"),
        "--at-once", "2", "--dry-run",
    ]) in (0, 2)  # fmt: skip
    assert "--array=1-4%2" in capsys.readouterr().out


def test_a_job_is_written_down_as_it_was_submitted(slurm, small_corpus, tmp_path, site, at_root):
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run")
    batches = chain(str(path), load_run_config(path), [])
    held = Options(sbatch=("--hold",))
    jobs = submit(batches, site, held, Controller())
    try:
        folder = tmp_path / "run" / "slurm"
        for before, job in zip([None, *jobs], jobs, strict=False):
            (line,) = (folder / f"{job.number}.jsonl").read_text().splitlines()
            event = json.loads(line)
            assert event["event"] == "submitted"
            assert event["after"] == (before and before.number)
            assert event["words"][-len(job.batch.arguments or (0,)) :]
            facts = slurm.facts(job.number)
            assert facts["JobState"] == "PENDING"
            assert facts["Command"].startswith(str(ROOT / "slurm" / job.batch.template))
        assert sorted(path.name for path in folder.glob("tasks-*")) == [
            jobs[1].batch.lines_file.name
        ]
    finally:
        slurm.run("scancel", *(job.number for job in jobs))
