"""The benchmark of the stream at a tiny size: what it writes and checks, not how fast it is."""

import json
import math
import os
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from types import MappingProxyType

import pytest

from headrace.benchmarks import stream
from headrace.benchmarks.frame import environment
from headrace.benchmarks.programs import FailedError
from headrace.benchmarks.stream_contestants import (
    HEADRACE,
    PEERS,
    Contestant,
    Entrants,
    find,
    run_program,
)
from headrace.benchmarks.stream_data import hash_of, link_tars, make_data_set
from headrace.benchmarks.stream_encoded import ENCODED, ONLINE, ONLINE_WORKERS
from headrace.benchmarks.stream_rounds import (
    Course,
    check,
    difference_between,
    http_rounds,
    lost_and_repeated,
    prepare,
    raw_rounds,
    resume_rounds,
)
from headrace.benchmarks.stream_server import Line, serve
from headrace.cli import main

TINY = stream.Settings(
    small_samples=512,
    large_samples=64,
    shards=4,
    http_samples=64,
    http_shards=4,
    fault_samples=256,
    documents=256,
    vocabulary=1500,
    seconds=0.2,
    rounds=1,
)
FIGURES = {
    "encoded_vs_online", "first_batch_ms", "resume_ms", "resume_ms_0.01", "resume_ms_0.5",
    "resume_ms_0.99", "state_bytes", "peak_mib",
}  # fmt: skip
PEER_FIGURES = {"raw_vs_litdata", "raw_vs_webdataset"}

COMMAND = f"""
import sys
from headrace.benchmarks import stream
from headrace.benchmarks.stream import Settings
from headrace.cli import main
stream.settings = lambda quick: {TINY}
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def written():
    """What the command writes at the tiny size, without peers."""
    words = ["benchmark", "stream", "--quick", "--json", "-"]
    finished = subprocess.run(
        [sys.executable, "-c", COMMAND, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == 0, finished.stderr
    assert "environment: cpu" in finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.slow
@pytest.mark.extended
def test_the_file_has_the_promised_keys(written):
    assert {"name", "command", "date", "environment", "rounds", "rows", "figures"} <= set(written)
    assert written["name"] == "stream"
    assert written["command"] == "headrace benchmark stream --quick"
    assert written["environment"].keys() == environment(stream.PACKAGES).keys()
    assert written["figures"].keys() >= FIGURES
    assert not written["figures"].keys() & PEER_FIGURES
    assert all(math.isfinite(value) for value in written["figures"].values())
    for row in written["rows"]:
        assert row["lowest"] <= row["median"] <= row["highest"]
        assert min(row["values"]) > 0


@pytest.mark.slow
@pytest.mark.extended
def test_absent_peers_are_named_with_the_reason(written):
    absent = {record["contestant"]: record["reason"] for record in written["tables"]["absent"]}
    assert absent.keys() == {peer.name for peer in PEERS}
    assert all("--peers" in reason for reason in absent.values())


@pytest.mark.slow
@pytest.mark.extended
def test_what_headrace_promises_holds_in_the_result(written):
    figures = written["figures"]
    assert figures["resume_lost_or_repeated"] == 0
    assert figures["state_bytes"] < 1024
    assert written["tables"]["failures"] == []
    faults = {
        (record["contestant"], record["fault"]): record for record in written["tables"]["faults"]
    }
    flipped = faults["headrace", "a bit flipped in a payload"]
    assert flipped["first run"].startswith("error: ")
    assert flipped["second run"].startswith("error: ")
    moved = faults["headrace", "3 ranks killed in mid-epoch, 2 ranks go on"]
    assert (moved["samples lost"], moved["samples repeated"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.extended
def test_every_way_to_token_ids_is_measured(written):
    groups = {}
    for row in written["rows"]:
        groups.setdefault(row["group"], set()).add(row["name"])
    assert {ENCODED, ONLINE, ONLINE_WORKERS} in groups.values()
    assert sum("page cache" in group for group in groups) == 4
    assert sum("HTTP" in group for group in groups) == 2


# Contestants that do not do what they should


@pytest.fixture
def data(tmp_path):
    return make_data_set(tmp_path / "tars", samples=96, largest=256, shards=3, seed=5)


READER = """
import tarfile
from pathlib import Path


def payloads(task):
    for path in sorted(Path(task["tars"]).glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                yield tar.extractfile(member).read()


class Loader:
    def __init__(self, task):
        self.task = task
        self.served = 0

    def __iter__(self):
        found = list(payloads(self.task))[self.served:]
        {change}
        for start in range(0, len(found), 32):
            self.served += len(found[start : start + 32])
            yield found[start : start + 32]

    def save(self):
        return b"%d" % self.served

    def load(self, state):
        self.served = int(state)
"""


def contestant_that(tmp_path, change):
    """A real program that reads the tars and then does `change`."""
    (tmp_path / "reader_of_tars.py").write_text(READER.replace("{change}", change))
    return Contestant(
        "reader", "reader_of_tars", "none", workers=(0,), resumes=True,
        options={"environment": {"PYTHONPATH": str(tmp_path)}},
    )  # fmt: skip


class Only(Entrants):
    """One contestant, run by this interpreter."""

    def __init__(self, contestant):
        super().__init__(
            MappingProxyType({contestant.name: sys.executable}),
            MappingProxyType({}),
            MappingProxyType({}),
        )
        object.__setattr__(self, "_contestant", contestant)

    @property
    def contestants(self):
        return [self._contestant]


def course_of(tmp_path, change="pass"):
    return Course(Only(contestant_that(tmp_path, change)), tmp_path / "made", seed=3)


def test_a_contestant_that_serves_the_samples_is_measured(tmp_path, data):
    course = course_of(tmp_path)
    assert check(course, data).keys() == {"reader"}
    (row,) = raw_rounds(course, data, "small", 0, rounds=2, seconds=5)
    assert len(row.values) == row.facts["rounds_done"] == 2
    for row in resume_rounds(course, data, rounds=1):
        assert (row.facts["samples_lost"], row.facts["samples_repeated"]) == (0, 0)
    assert course.tables["failures"] == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("found[7] = found[8]", "other samples"),
        ("found[7] = found[7][:-1] + b'?'", "other samples"),
        ("found.pop()", "95 samples of 96"),
        ("found.append(found[0])", "97 samples of 96"),
        ("found[7] = None", "not bytes"),
        ("raise ValueError('nothing goes')", "nothing goes"),
    ],
)
def test_a_contestant_that_serves_anything_else_is_excluded(tmp_path, data, change, what):
    course = course_of(tmp_path, change)
    assert check(course, data) == {}
    (failure,) = course.tables["failures"]
    assert failure["contestant"] == "reader"
    assert what in failure["error"]
    assert course.entered(data) == []
    assert raw_rounds(course, data, "small", 0, rounds=1, seconds=5) == []


def test_a_resume_that_loses_samples_is_counted(tmp_path, data):
    course = course_of(tmp_path, "if self.served: found = found[3:]")
    rows = resume_rounds(course, data, rounds=1)
    assert [row.facts["samples_lost"] for row in rows][:2] == [3, 3]


def test_a_program_that_ends_by_itself_was_not_killed(tmp_path, data):
    (tmp_path / "state").write_text("")
    contestant = contestant_that(tmp_path, "raise SystemExit(3)")
    with pytest.raises(FailedError):
        run_program(
            sys.executable,
            contestant.module,
            {**contestant.options, "tars": str(data.tars), "action": "check", "samples": 96},
        )


def test_lost_and_repeated_samples_are_counted_over_all_files(tmp_path, data):
    hashes = list(range(data.samples))
    (tmp_path / "a").write_text(json.dumps(hashes[:50]))
    (tmp_path / "b").write_text(json.dumps(hashes[45:90]))
    assert lost_and_repeated([str(tmp_path / "a"), str(tmp_path / "b")], data) == (6, 5)


# Peers that are not there


def test_an_environment_without_the_package_is_absent(tmp_path):
    common = tmp_path / "common" / "bin"
    common.mkdir(parents=True)
    (common / "python").symlink_to("/bin/false")
    found = find(tmp_path)
    assert found.contestants == [HEADRACE]
    assert found.absent.keys() == {peer.name for peer in PEERS}
    assert "litdata is not installed" in found.absent["litData"]
    assert "there is no" in found.absent["Mosaic"]


def test_a_wrong_folder_of_peers_is_found_before_measuring(tmp_path, capsys):
    assert main(["benchmark", "stream", "--peers", str(tmp_path / "missing")]) == 2
    assert "scripts/stream_peers.sh" in capsys.readouterr().err
    assert main(["benchmark", "training", "--peers", str(tmp_path)]) == 2
    assert "this benchmark has no peers" in capsys.readouterr().err


# Data and server


def test_the_digest_is_that_of_an_independent_reader(tmp_path, data):
    payloads = []
    for path in data.files:
        with tarfile.open(path) as tar:
            payloads += [tar.extractfile(member).read() for member in tar]
    assert len(set(payloads)) == len(payloads) == data.samples
    assert sum(map(len, payloads)) == data.payload_bytes
    assert sum(map(hash_of, payloads)) % 2**64 == data.digest
    assert max(map(len, payloads)) <= 256
    again = make_data_set(tmp_path / "again", samples=96, largest=256, shards=3, seed=5)
    assert (again.digest, again.tar_bytes) == (data.digest, data.tar_bytes)
    found = {"samples": 96, "payload_bytes": data.payload_bytes, "digest": str(data.digest)}
    assert difference_between(found, data) is None


def test_the_server_gives_ranges_and_fails_the_same_requests_for_the_same_seed(data):
    path = data.files[0]

    def ask(url, headers=MappingProxyType({})):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""

    whole = path.read_bytes()
    with serve(data.tars, Line(0, 0, 1)) as url:
        assert ask(f"{url}/{path.name}") == (200, whole)
        assert ask(f"{url}/{path.name}", {"Range": "bytes=10-99"}) == (206, whole[10:100])
        assert ask(f"{url}/{path.name}", {"Range": "bytes=500-"}) == (206, whole[500:])
        assert ask(f"{url}/other.tar")[0] == 404
        assert ask(f"{url}/../{path.parent.name}/{path.name}")[0] in {400, 404}
    sequences = []
    for seed in (1, 1, 2):
        line = Line(0, 0.3, seed)
        with serve(data.tars, line) as url:
            sequences.append([ask(f"{url}/{path.name}")[0] for _ in range(40)])
        assert (line.requests, line.failures) == (40, sequences[-1].count(503))
        assert 0 < line.failures < 40
    assert sequences[0] == sequences[1] != sequences[2]


def test_headrace_reads_over_a_failing_line(tmp_path, data):
    course = Course(find(None), tmp_path / "made", seed=3)
    prepare(course, data, [HEADRACE])
    (row,) = http_rounds(course, data, 0.2, rounds=1)
    assert course.tables["failures"] == []
    assert row.facts["requests"] > len(data.files)


def test_linked_tars_are_the_same_files(tmp_path, data):
    links = link_tars(data.tars, tmp_path / "links")
    assert [path.name for path in sorted(links.iterdir())] == [path.name for path in data.files]
    assert all(path.samefile(links / path.name) for path in data.files)
