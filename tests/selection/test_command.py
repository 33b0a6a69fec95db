"""``headrace select`` from shards and from ready-made vectors."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from headrace.cli import main
from headrace.selection.encoder import Encoder
from headrace.shards import ShardWriter
from headrace.shards.sample import Sample
from headrace.stream.selected import read_chosen
from headrace.training.distributed import free_port


@pytest.fixture
def command(small_corpus, small_encoder, tmp_path):
    """The words of a command over two sources; its result goes to ``tmp_path/selected``."""
    return [
        "select", small_corpus.source("en", "train"), small_corpus.source("hi", "train"),
        "--encoder", str(small_encoder), "--max-length", "48",
        "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "selected"),
    ]  # fmt: skip


def result(folder: Path) -> tuple[dict, list[dict]]:
    report = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    return report, pyarrow.parquet.read_table(folder / "selection.parquet").to_pylist()


def test_from_shards_to_ids_and_again_nothing(command, tmp_path, small_corpus, monkeypatch, capsys):
    from headrace.shards import ShardReader

    assert main([*command, "--fraction", "0.1"]) == 0
    report, rows = result(tmp_path / "selected")
    keys = {
        f"{name}/{sample.key}"
        for name in ("en", "hi")
        for sample in ShardReader(small_corpus.source(name, "train"))
    }
    assert len(keys) == 240
    assert len(rows) == report["chosen"] == 24
    assert {row["id"] for row in rows} <= keys
    assert [row["rank"] for row in rows] == list(range(1, 25))
    assert sum(row["gain"] for row in rows) == pytest.approx(report["objective"])
    assert report["bound"] >= report["objective"]
    groups = report["groups"]
    assert (groups["en"]["rows"], groups["hi"]["rows"]) == (150, 90)
    for name, group in groups.items():
        assert group["chosen"] == sum(row["id"].startswith(name + "/") for row in rows)
        assert group["share_after"] == group["chosen"] / 24
    assert 0 < report["tokens"]["chosen"] < report["tokens"]["rows"]

    # A run finds each of them, in the state that they were chosen in.
    readers = {name: ShardReader(small_corpus.source(name, "train")) for name in groups}
    assert report["sources"] == {
        name: reader.manifest.fingerprint for name, reader in readers.items()
    }
    chosen = read_chosen(str(tmp_path / "selected"), ["en", "hi"], readers)
    found = {
        f"{name}/{readers[name].shard(shard)[number].key}"
        for name, some in chosen.items()
        for shard, numbers in enumerate(some.shards)
        for number in numbers.tolist()
    }
    assert found == {row["id"] for row in rows}

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "selected").iterdir()}
    monkeypatch.setattr(Encoder, "embed", None)  # would fail if it were called
    capsys.readouterr()
    assert main([*command, "--fraction", "0.1"]) == 0
    assert "there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "selected").iterdir()} == before

    assert main([*command, "--fraction", "0.2"]) == 2
    assert "another selection" in capsys.readouterr().err


def test_a_result_that_was_changed_is_noticed(command, tmp_path, capsys):
    assert main([*command, "--rows", "5"]) == 0
    rows = tmp_path / "selected" / "selection.parquet"
    rows.write_bytes(rows.read_bytes()[:-20])
    assert main([*command, "--rows", "5"]) == 2
    assert "not what was written" in capsys.readouterr().err


def test_a_token_budget_and_names_of_sources(small_corpus, command, tmp_path):
    command[1] = "first=" + command[1]
    command[2] = "second=" + small_corpus.source("en", "dev")
    must = tmp_path / "must.txt"
    assert main([*command, "--budget", "400"]) == 0
    report, rows = result(tmp_path / "selected")
    assert 300 < report["tokens"]["chosen"] <= 400
    assert {row["id"].split("/")[0] for row in rows} <= {"first", "second"}
    must.write_text(rows[-1]["id"] + "\n")
    command[command.index("--output") + 1] = str(tmp_path / "other")
    assert main([*command, "--rows", "3", "--require", str(must)]) == 0
    assert result(tmp_path / "other")[1][0]["id"] == rows[-1]["id"]


def test_doc2vec_in_place_of_an_encoder(small_corpus, tmp_path, capsys):
    words = [
        "select", small_corpus.source("en", "train"), small_corpus.source("hi", "train"),
        "--embedding", "doc2vec", "--vector-size", "16", "--epochs", "4", "--rows", "12",
        "--cache", str(tmp_path / "cache"), "--output",
    ]  # fmt: skip
    assert main([*words, str(tmp_path / "selected")]) == 0
    report, rows = result(tmp_path / "selected")
    assert (report["rows"], len(rows)) == (240, 12)
    assert report["tokens"]["chosen"] > 12
    assert main([*words, str(tmp_path / "again"), "--cache", str(tmp_path / "new")]) == 0
    assert result(tmp_path / "again")[1] == rows
    assert main([*words, str(tmp_path / "selected"), "--seed", "1"]) == 2
    assert "another selection" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "other"), "--epochs", "0", "--encoder", "x"]) == 2
    error = capsys.readouterr().err
    assert "Doc2Vec needs no encoder" in error
    assert "--epochs" in error


def test_one_pass_over_ready_made_vectors(ready_made, tmp_path, capsys):
    words = [*ready_made, "--rows", "30", "--method", "one_pass", "--minimum", "a=20"]
    assert main([*words, "--sample-rows", "100", "--warm-passes", "1"]) == 0
    report, rows = result(tmp_path / "selected")
    assert (report["method"], report["chosen"], report["passes"]) == ("one_pass", 30, 4)
    assert report["bound"] >= report["objective"]
    assert sum(row["id"].startswith("a/") for row in rows) >= 20
    assert main([*words, "--sample-rows", "200", "--warm-passes", "1"]) == 2
    assert "another selection" in capsys.readouterr().err
    words[words.index("--output") + 1] = str(tmp_path / "other")
    assert main([*words, "--sample-rows", "0", "--seed", "-3"]) == 2
    error = capsys.readouterr().err
    assert "--sample-rows" in error
    assert "--seed: out of range (value: -3). Give 0 or more" in error


def test_quotas_by_source(command, tmp_path):
    assert main([*command, "--rows", "20", "--minimum", "en=13", "--maximum", "hi=6"]) == 0
    groups = result(tmp_path / "selected")[0]["groups"]
    assert groups["en"]["chosen"] + groups["hi"]["chosen"] == 20
    assert groups["en"]["chosen"] >= 14


def test_quotas_by_a_field_of_the_metadata(small_encoder, tmp_path, capsys):
    source = tmp_path / "en"
    with ShardWriter(str(source), samples_per_shard=40) as writer:
        writer.metadata["language"] = "en"
        for number in range(90):
            topic = ["law=a", "law=a", "art"][number % 3]
            content = json.dumps({"topic": topic, "tokens": ["x"]}).encode()
            fields = {"txt": f"text number {number}".encode(), "json": content}
            writer.write(Sample(f"{number:03}", fields))
    command = [
        "select", str(source), "--encoder", str(small_encoder), "--max-length", "48",
        "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "selected"),
        "--group-by", "topic",
    ]  # fmt: skip
    assert main([*command, "--rows", "20", "--minimum", "art=9", "--maximum", "law=a=11"]) == 0
    report, rows = result(tmp_path / "selected")
    assert report["groups"] == {
        "art": {"rows": 30, "chosen": 9, "share_before": 1 / 3, "share_after": 0.45},
        "law=a": {"rows": 60, "chosen": 11, "share_before": 2 / 3, "share_after": 0.55},
    }
    assert sum(int(row["id"].split("/")[1]) % 3 == 2 for row in rows) == 9
    assert report["settings"]["group_by"] == "topic"
    command[command.index("--output") + 1] = str(tmp_path / "other")
    command[command.index("--cache") + 1] = str(tmp_path / "unused")
    assert main([*command, "--rows", "20", "--minimum", "en=9"]) == 2
    assert "--minimum en: there is no such group. Groups: art, law=a" in capsys.readouterr().err
    assert not (tmp_path / "unused").exists()  # before anything is embedded
    assert main([*command[:-1], "tokens", "--rows", "20"]) == 2
    assert "--group-by: the value of tokens is neither" in capsys.readouterr().err


def test_a_disk_that_is_full_at_the_end_leaves_no_selection(command, tmp_path, capsys):
    assert main([*command, "--rows", "5"]) == 0  # the vectors are in the cache
    command[command.index("--output") + 1] = str(tmp_path / "other")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        assert main([*command, "--rows", "200"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert "selection.parquet: cannot write it: File too large" in capsys.readouterr().err
    assert not (tmp_path / "other" / "selection.json").exists()
    assert main([*command, "--rows", "200"]) == 0
    assert result(tmp_path / "other")[0]["chosen"] == 200


@pytest.fixture
def ready_made(clusters, tmp_path):
    """Vectors with ids in two groups, in files."""
    np.save(tmp_path / "v.npy", clusters(400, 8, 4))
    ids = [f"{'ab'[row % 2]}/{row:03}" for row in range(400)]
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
    return [
        "select", "--vectors", str(tmp_path / "v.npy"), "--ids", str(tmp_path / "ids.txt"),
        "--output", str(tmp_path / "selected"),
    ]  # fmt: skip


def test_from_vectors_the_greedy_of_the_paper(ready_made, tmp_path, dense_reference):
    assert main([*ready_made, "--rows", "40", "--method", "exact_greedy"]) == 0
    report, rows = result(tmp_path / "selected")
    vectors = np.load(tmp_path / "v.npy")
    ids = (tmp_path / "ids.txt").read_text().split()
    order = np.argsort(ids)
    ties = np.empty(400, int)
    ties[order] = np.arange(400)
    expected, gains = dense_reference(vectors, ties).greedy(40)
    assert [row["id"] for row in rows] == [ids[row] for row in expected]
    np.testing.assert_allclose([row["gain"] for row in rows], gains, atol=1e-8)
    assert report["tokens"] is None


def test_the_rows_are_a_table_with_the_fingerprint_and_the_same_bytes_each_time(
    ready_made, tmp_path
):
    assert main([*ready_made, "--rows", "40"]) == 0
    path = tmp_path / "selected" / "selection.parquet"
    schema = pyarrow.parquet.read_schema(path)
    assert [(field.name, str(field.type)) for field in schema] == [
        ("id", "string"), ("rank", "int64"), ("gain", "double"), ("score", "double"),
    ]  # fmt: skip
    report = result(tmp_path / "selected")[0]
    assert schema.metadata[b"fingerprint"].decode() == report["fingerprint"]
    ready_made[ready_made.index("--output") + 1] = str(tmp_path / "again")
    assert main([*ready_made, "--rows", "40"]) == 0
    assert (tmp_path / "again" / "selection.parquet").read_bytes() == path.read_bytes()


def test_the_report_says_how_near_the_chosen_lie_and_how_many_are_copies(
    ready_made, tmp_path, capsys
):
    assert main([*ready_made, "--rows", "100", "--duplicate-cosine", "0.99"]) == 0
    report, rows = result(tmp_path / "selected")
    vectors = np.load(tmp_path / "v.npy").astype(float)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = (tmp_path / "ids.txt").read_text().split()
    chosen = unit[[ids.index(row["id"]) for row in rows]]
    coverage = report["coverage"]
    assert coverage["chosen"] == pytest.approx((unit @ chosen.T).max(1).mean(), abs=1e-5)
    heads = coverage["heads"]
    assert heads["rows"] == [2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert heads["chosen"][2] == pytest.approx((unit @ chosen[:10].T).max(1).mean(), abs=1e-5)
    assert coverage["measured"] == 400
    assert heads["random"] == sorted(heads["random"])
    before = np.tril(chosen @ chosen.T, -1).max(1)
    copies = (before >= 0.99).mean()
    assert 0 < copies < 1
    assert report["duplicates"] == {"cosine": 0.99, "share": copies, "measured": 100}
    assert f"{copies:.1%} of the chosen are near-copies" in capsys.readouterr().out
    assert main([*ready_made, "--rows", "100", "--duplicate-cosine", "1.5"]) == 2
    assert "--duplicate-cosine: out of range" in capsys.readouterr().err


def test_past_the_knee_there_is_a_warning_with_the_alternatives(ready_made, capsys):
    assert main([*ready_made, "--rows", "100", "--method", "exact_greedy"]) == 0
    error = capsys.readouterr().err
    assert "each lowers the objective: lambda 10 is too large for 100 of 400 rows" in error
    assert "n/k - 2 = 2" in error


def test_everything_that_is_wrong_is_said_at_once_under_the_names_of_options(
    ready_made, tmp_path, capsys
):
    assert main([*ready_made, "--rows", "5", "--group-by", "topic"]) == 2
    assert "--group-by: goes with sources only" in capsys.readouterr().err
    arguments = [*ready_made, "--minimum", "a", "--trade-off", "much", "--costs", "nowhere.npy"]
    assert main([*arguments, "--encoder", "x", "--require", "nothing.txt"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert {line.split(":")[1].strip() for line in lines} == {
        "--vectors", "--minimum", "--trade-off", "--costs", "--require",
    }  # fmt: skip
    assert main([*ready_made, "--rows", "500", "--minimum", "c=3", "--maximum", "b=-1"]) == 2
    assert "--maximum: not a quota" in capsys.readouterr().err
    assert main([*ready_made, "--rows", "50", "--minimum", "c=3", "--minimum", "a=900"]) == 2
    assert "--minimum c: there is no such group. Groups: a, b" in capsys.readouterr().err
    assert main([*ready_made, "--rows", "50", "--minimum", "a=201"]) == 2
    assert "--minimum a: the group has 200 rows, 1 too few" in capsys.readouterr().err
    (tmp_path / "must.txt").write_text("a/000\na/x\n")
    assert main([*ready_made, "--rows", "5", "--require", str(tmp_path / "must.txt")]) == 2
    assert "no row has this id (value: a/x)" in capsys.readouterr().err
    assert not (tmp_path / "selected").exists()


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ("--threshold 0.9 --penalty 3", "--threshold --penalty"),
        ("--neighbours 9 --probes 2 --width 0", "--neighbours --probes --width"),
        ("--objective facility_location --trade-off 3 --probes 4", "--trade-off"),
        ("--objective facility_location --index hnsw --probes 4", "--probes"),
        ("--objective facility_location --index ivf --links 4", "--links"),
        ("--seed 0 --sample-rows 9 --parts 2", "--seed --sample-rows --parts"),
        ("--method exact_greedy --warm-passes 0", "--warm-passes"),
        ("--pooling cls --max-length 9 --shard-cache x", "--pooling --max-length --shard-cache"),
        ("--epochs 3 --dbow", "--epochs --dbow"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(
    ready_made, options, refused, tmp_path, capsys
):
    assert main([*ready_made, "--rows", "5", *options.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    found = [line.split()[1] for line in lines if "it would have no effect" in line]
    assert sorted(found) == sorted(f"{option}:" for option in refused.split())
    assert len(lines) == len(found)
    assert not (tmp_path / "selected").exists()


def test_what_cannot_be_chosen_is_refused_before_anything_is_embedded(
    command, tmp_path, monkeypatch, capsys
):
    def refuse(*arguments, **settings):
        raise AssertionError("nothing is to be embedded")

    monkeypatch.setattr("headrace.selection.job.Task.embedded", refuse)
    for words, says in (
        (["--rows", "0"], ["--rows: out of range (value: 0). Give 1 to 240"]),
        (["--rows", "241"], ["--rows: out of range (value: 241). Give 1 to 240"]),
        (["--fraction", "nan"], ["--fraction: out of range"]),
        (["--rows", "9", "--trade-off", "nan"], ["--trade-off: out of range"]),
        (["--rows", "9", "--method", "greedi", "--parts", "0"], ["--method: not", "--parts: out"]),
        (["--rows", "9", "--minimum", "en=151"], ["--minimum en: the group has 150", "1 too few"]),
        (["--rows", "9", "--maximum", "x=1"], ["--maximum x: there is no such group"]),
        (["--budget", "9", "--method", "one_pass"], ["--method: one pass"]),
        (["--budget", "9", "--trade-off", "balanced"], ["--trade-off: a balanced"]),
        (["--rows", "9", "--method", "one_pass", "--sample-rows", "0"], ["--sample-rows: out"]),
    ):
        assert main([*command, *words]) == 2
        error = capsys.readouterr().err
        assert all(part in error for part in says), error
        assert "Traceback" not in error
    assert not (tmp_path / "selected").exists()


def test_rows_without_a_direction_are_named_by_their_ids(ready_made, tmp_path, capsys):
    vectors = np.load(tmp_path / "v.npy")
    vectors[7] = np.nan
    vectors[11] = 0
    np.save(tmp_path / "v.npy", vectors)
    assert main([*ready_made, "--rows", "5"]) == 2
    error = capsys.readouterr().err
    assert "b/007" in error
    assert "b/011" in error


def test_nothing_to_choose_from_and_sources_of_one_language(small_corpus, small_encoder, capsys):
    assert main(["select", "--rows", "5", "--output", "x", "--ids", "y"]) == 2
    error = capsys.readouterr().err
    assert "SOURCE: nothing to choose from" in error
    assert "--ids: goes with vectors only" in error
    twice = [small_corpus.source("en", "train"), small_corpus.source("en", "dev")]
    command = ["select", *twice, "--encoder", str(small_encoder), "--max-length", "48"]
    assert main([*command, "--rows", "5", "--output", "x"]) == 2
    assert "two sources have one name (value: en). Give names: NAME=SOURCE" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_two_ranks_of_a_launcher_choose_as_one_process(command, forked_ranks, tmp_path):
    """Real ranks share the embedding and the selection; a mistake is printed once."""
    assert main([*command, "--fraction", "0.1"]) == 0
    command[command.index("--output") + 1] = str(tmp_path / "ranks")
    command[command.index("--cache") + 1] = str(tmp_path / "other")
    launcher = str(Path(sys.executable).parent / "torchrun")
    script = str(Path(__file__).parents[2] / "launch" / "select_data.py")

    words = [launcher, "--nproc-per-node", "2", "--standalone", script, *command[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*words, "--fraction", "0.1"], env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    one, many = ((tmp_path / name / "selection.parquet") for name in ("selected", "ranks"))
    assert one.read_bytes() == many.read_bytes()
    environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [{**environment, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    log = tmp_path / "log"
    words = [script, *command[1:], "--rows", "5000"]
    assert forked_ranks.run(words, ranks, tmp_path, log, 300) == [2, 2]
    error = "error: --rows: out of range (value: 5,000). Give 1 to 240"
    assert log.read_text().count(error) == 1
