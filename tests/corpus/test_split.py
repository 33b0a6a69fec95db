"""Splitting a source: what goes where, what is written, and what is refused."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import main
from headrace.corpus.split import split_source
from headrace.corpus.split_plan import read_plan
from headrace.corpus.split_rows import Rows, comparable, read_rows
from headrace.corpus.split_rules import ByShare
from headrace.errors import UserError
from headrace.shards import ShardReader, ShardWriter, read_manifest
from headrace.shards.sample import make_sample

NAMES = ("train", "validation", "test")
LABELS = ("joy", "fear", "anger")


def write(folder: Path, texts: list[str], labels: list[str] | None = None, **options: int) -> str:
    with ShardWriter(str(folder), **options) as writer:
        writer.metadata |= {"language": "en", "repairs": {"bom": 1}}
        for number, text in enumerate(texts):
            label = labels[number] if labels else LABELS[number % 7 % 3]
            metadata = {"id": f"s{number}", "text": text, "label": label}
            writer.write(make_sample(f"s{number}", text, metadata))
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """1,200 texts, of which every tenth is one of 40 texts in other letters and spaces."""
    texts = [
        f"The {('Same', 'same', '  SAME ')[number % 3]} café {number % 40}"
        if number % 10 == 0
        else f"text number {number} of many"
        for number in range(1200)
    ]
    texts = [unicodedata.normalize(("NFC", "NFD")[n % 2], text) for n, text in enumerate(texts)]
    return write(tmp_path_factory.mktemp("split") / "source", texts, samples_per_shard=250)


def parts_of(folder: object) -> dict[str, dict[str, str]]:
    """Key -> text of each part."""
    record = json.loads((Path(str(folder)) / "split.json").read_text())
    return {
        name: {sample.key: sample.text for sample in ShardReader(str(Path(str(folder)) / name))}
        for name in record["parts"]
    }


def by_share(*shares: str, stratify: str | None = None) -> ByShare:
    return ByShare(tuple(map(Fraction, shares)), stratify)


THREE = by_share("0.8", "0.1", "0.1")


def test_every_sample_is_in_one_part_and_unchanged(source: str, tmp_path: Path) -> None:
    split = split_source(source, str(tmp_path / "out"), THREE)
    parts = parts_of(tmp_path / "out")
    assert tuple(parts) == NAMES
    before = list(ShardReader(source))
    assert sum(map(len, parts.values())) == len(before) == 1200
    after = {s.key: s for name in NAMES for s in ShardReader(str(tmp_path / "out" / name))}
    assert all(after[sample.key] == sample for sample in before)
    for name, samples in parts.items():
        order = [sample.key for sample in before if sample.key in samples]
        assert list(samples) == order
        manifest = read_manifest(str(tmp_path / "out" / name))
        assert manifest.parent == read_manifest(source).fingerprint
        assert manifest.metadata["split"] == name
        assert manifest.metadata["language"] == "en"
        assert "repairs" not in manifest.metadata
        told = manifest.metadata["split_of"]
        assert told["source"]["name"] == "source"
        assert (told["by"], told["shares"], told["seed"]) == ("share", ["0.8", "0.1", "0.1"], 0)
        assert told["parts"] == {name: len(samples) for name, samples in parts.items()}
        assert (
            manifest.metadata["sentences"] == len(samples) == split.record["parts"][name]["samples"]
        )
        # six standard deviations of independent draws, some of which are of three samples at once
        share = 0.8 if name == "train" else 0.1
        assert abs(len(samples) - 1200 * share) < 6 * (1200 * 2 * share * (1 - share)) ** 0.5
    table = pyarrow.parquet.read_table(tmp_path / "out" / "parts.parquet").to_pydict()
    assert table["id"] == [sample.key for sample in before]
    assert all(key in parts[part] for key, part in zip(table["id"], table["part"], strict=True))
    assert main(["verify", *(str(tmp_path / "out" / name) for name in NAMES)]) == 0


@pytest.mark.parametrize("stratify", [None, "label"])
def test_the_same_text_is_never_in_two_parts(
    source: str, tmp_path: Path, stratify: str | None
) -> None:
    rule = by_share("0.4", "0.3", "0.3", stratify=stratify)
    split_source(source, str(tmp_path / "out"), rule)
    there = [
        {" ".join(unicodedata.normalize("NFD", text).casefold().split()) for text in part.values()}
        for part in parts_of(tmp_path / "out").values()
    ]
    assert sum(map(len, there)) == 1080 + 4 * 1  # ten times `n % 40` is one of 4 texts
    assert not any(one & other for one, other in itertools.combinations(there, 2))


def test_a_sample_stays_where_it_is_when_the_source_grows(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(500)]
    write(tmp_path / "small", texts[:300])
    write(tmp_path / "large", texts[::-1])
    for name in ("small", "large"):
        split_source(str(tmp_path / name), str(tmp_path / f"{name}-parts"), THREE, seed=4)
    small, large = (
        {text: part for part, texts in parts_of(folder).items() for text in texts.values()}
        for folder in (tmp_path / "small-parts", tmp_path / "large-parts")
    )
    assert small.items() <= large.items()
    split_source(str(tmp_path / "small"), str(tmp_path / "other"), THREE, seed=5)
    moved = parts_of(tmp_path / "other")
    assert sum(small[text] != part for part, those in moved.items() for text in those.values()) > 50


def test_places_of_a_seed_are_the_same_for_ever(tmp_path: Path) -> None:
    source = write(tmp_path / "source", ["One text", "ONE  text", "another"])
    rows = read_rows(ShardReader(source), seed=0)
    # BLAKE2b of "split", level, seed and the comparable text, with U+001F between them
    assert rows.positions.tolist() == [16259114674405325562] * 2 + [17201838652290857989]
    assert read_rows(ShardReader(source), seed=0, level=1).positions[0] == 4842183723297066475
    assert rows.first.tolist() == [0, 0, 2]


def test_stratified_parts_have_the_shares_of_each_value(tmp_path: Path) -> None:
    labels = ["a"] * 500 + ["b"] * 73 + [f"rare {number}" for number in range(60) for _ in range(5)]
    texts = [f"text {number}" for number in range(len(labels))]
    source = write(tmp_path / "source", texts, labels)
    rule = by_share("0.8", "0.1", "0.1", stratify="label")
    split = split_source(source, str(tmp_path / "out"), rule)
    counts: dict[str, Counter[str]] = {}
    for name in NAMES:
        for sample in ShardReader(str(tmp_path / "out" / name)):
            counts.setdefault(sample.metadata["label"], Counter())[name] += 1
    for label, of in Counter(labels).items():
        for name, share in zip(NAMES, (0.8, 0.1, 0.1), strict=True):
            assert abs(counts[label][name] - share * of) < 1
        assert split.record["values"][label] == [counts[label][name] for name in NAMES]
    # of five samples each, 4.0, 0.5 and 0.5 go to the parts: not always to the same one
    rare = [counts[f"rare {number}"] for number in range(60)]
    for name in ("validation", "test"):
        assert 15 < sum(of[name] for of in rare) < 45


class OneValue(Rows):
    """Rows that all have one value in every field."""

    def values(self, field: str, option: str) -> tuple[np.ndarray, tuple[str, ...]]:
        return np.zeros(len(self), np.int64), ("x",)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=40),
    shares=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    seed=st.integers(0, 99),
)
def test_stratified_parts_are_off_by_less_than_the_largest_group_of_texts(
    sizes: list[int], shares: list[int], seed: int
) -> None:
    first = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    heads, inverse = np.unique(first, return_inverse=True)
    places = np.random.default_rng(seed).integers(0, 2**64, len(heads), dtype=np.uint64)
    rows = OneValue(None, np.arange(len(first)), places[inverse], first, seed)  # type: ignore[arg-type]
    rule = ByShare(tuple(Fraction(share, sum(shares)) for share in shares), "label")
    parts = rule.divide(rows).parts
    assert (parts == parts[first]).all()
    found = np.bincount(parts, minlength=len(shares))
    for count, share in zip(found, rule.shares, strict=True):
        assert abs(count - share * len(first)) < 2 * max(sizes)
        if max(sizes) == 1:
            assert abs(count - share * len(first)) < 1


def test_a_part_is_split_anew(source: str, tmp_path: Path) -> None:
    """Its samples are those of one range of places, which must not decide again."""
    split_source(source, str(tmp_path / "once"), by_share("0.5", "0.5"))
    split_source(str(tmp_path / "once" / "test"), str(tmp_path / "twice"), by_share("0.5", "0.5"))
    split_source(str(tmp_path / "twice" / "train"), str(tmp_path / "thrice"), THREE)
    sizes = [len(part) for part in parts_of(tmp_path / "twice").values()]
    assert min(sizes) > 200
    sizes = [len(part) for part in parts_of(tmp_path / "thrice").values()]
    assert sizes[0] > 180
    assert min(sizes) > 8
    told = read_manifest(str(tmp_path / "thrice" / "test")).metadata["split_of"]
    assert told["level"] == 3


def test_a_limit_takes_the_same_samples_first_and_leaves_them_in_their_parts(
    source: str, tmp_path: Path
) -> None:
    found = {}
    for limit in (100, 300, None):
        split_source(source, str(tmp_path / str(limit)), THREE, limit=limit)
        found[limit] = {
            (key, part) for part, keys in parts_of(tmp_path / str(limit)).items() for key in keys
        }
    assert (len(found[100]), len(found[300])) == (100, 300)
    assert found[100] < found[300] < found[None]


def test_exact_shares_of_any_kind() -> None:
    assert by_share("1/3", "1/3", "1/3").problems(None) == []
    assert by_share(*["0.1"] * 10).problems(None) == []  # in floating point they are not 1
    (problem,) = by_share("0.8", "0.1").problems(None)
    assert "sum to 0.9," in problem.what


@given(st.text(), st.text(alphabet=" \t\n\u3000\u00a0", min_size=1, max_size=3))
def test_comparable_texts(text: str, space: str) -> None:
    assert comparable(text.replace(" ", space)) == comparable(text)
    assert comparable(unicodedata.normalize("NFD", text)) == comparable(text)
    assert comparable(comparable(text)) == comparable(text)
    assert comparable(f"{space}{text}{space}") == comparable(text)


def test_the_command_again_does_nothing_and_other_settings_are_refused(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["split", source, "--output", str(tmp_path / "out"), "--by", "share"]
    assert main([*command, "0.5,0.5"]) == 0
    assert "train: " in capsys.readouterr().out
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert main([*command, "0.5,0.5"]) == 0
    assert "there already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == stamps
    assert main([*command, "0.5,0.5", "--seed", "2"]) == 2
    error = capsys.readouterr().err
    assert "seed is 0, not 2" in error
    assert "--overwrite" in error
    assert main([*command, "0.5,0.25,0.25", "--names", "a,b,c", "--overwrite"]) == 0
    assert sorted(parts_of(tmp_path / "out")) == ["a", "b", "c"]
    assert not list((tmp_path / "out" / "train").glob("*"))


def test_a_split_does_not_overwrite_its_own_source(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_source(source, str(tmp_path / "out"), THREE)
    before = files_of(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    for url in (str(tmp_path / "out" / "train"), "train", "../out/test/"):
        for output in (str(tmp_path / "out"), ".", "../out/"):
            with pytest.raises(UserError, match="the source lies among the parts"):
                split_source(url, output, THREE, overwrite=True)
    assert files_of(tmp_path / "out") == before


def test_what_is_there_stays_until_there_is_something_to_put_in_its_place(
    source: str, tmp_path: Path
) -> None:
    split_source(source, str(tmp_path / "out"), THREE)
    before = files_of(tmp_path / "out")
    for wrong in (by_share("0.5", "0.5", stratify="colour"), by_share("0.999999", "0.000001")):
        with pytest.raises(UserError):
            split_source(source, str(tmp_path / "out"), wrong, overwrite=True)
    assert files_of(tmp_path / "out") == before


def test_all_that_is_wrong_is_named_at_once(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "out")]
    wrong = ["--by", "share", "0.8,0.3", "--names", "a,A,b/c", "--seed", "-1", "--limit", "0"]
    assert main(["split", source, *out, *wrong, "--at", "median", "--samples-per-shard", "0"]) == 2
    errors = capsys.readouterr().err
    for option in ("--by", "--names", "--seed", "--limit", "--at", "--samples-per-shard"):
        assert f"error: {option}: " in errors
    assert "3 names for 2 parts" in errors
    assert "sum to 1.1" in errors
    assert not (tmp_path / "out").exists()
    for by, says in (
        (["share", "a,b"], "not a list of shares"),
        (["share"], "not a list of shares"),
        (["share", "1/0,1"], "not a list of shares"),
        (["share", "1.2,-0.2"], "a share is not above 0"),
        (["share", "0.25,0.25,0.25,0.25"], "have no usual names"),
        (["length", "3"], "length takes no value"),
        (["clusters", "two"], "not a number of clusters"),
        (["chance"], "no such way to split"),
    ):
        assert main(["split", source, *out, "--by", *by]) == 2
        assert says in capsys.readouterr().err
    assert main(["split", str(tmp_path / "no"), *out, "--by", "share", "0.5,0.4"]) == 2
    errors = capsys.readouterr().err
    assert "no manifest" in errors
    assert "sum to 0.9" in errors
    assert main(["split", source, "--output", source, "--by", "length"]) == 2
    assert "a source is in this folder" in capsys.readouterr().err


def test_samples_without_the_field_are_named(tmp_path: Path) -> None:
    with ShardWriter(str(tmp_path / "source")) as writer:
        for number in range(30):
            more = {"label": "x"} if number % 2 else {"label": None} if number % 4 else {}
            if number == 7:
                more = {"label": ["x"]}  # type: ignore[dict-item]
            writer.write(make_sample(f"s{number}", f"text {number}", {"topic": 1, **more}))
    rule = by_share("0.5", "0.5", stratify="label")
    with pytest.raises(UserError) as caught:
        split_source(str(tmp_path / "source"), str(tmp_path / "out"), rule)
    absent, unfit = caught.value.problems
    assert "15 of 30 samples have no field label: s0, s2, s4" in absent.what
    assert "and 5 more" in absent.what
    assert "topic" in str(absent.remedy)
    assert unfit.what.endswith(": s7")
    assert not (tmp_path / "out").exists()


def test_a_part_that_nothing_falls_into_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "source", ["a text", "another text"])
    with pytest.raises(UserError, match="no sample falls into") as caught:
        split_source(source, str(tmp_path / "out"), THREE)
    assert "share of 2 samples" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_record_that_is_not_of_this_split_is_written_again(source: str, tmp_path: Path) -> None:
    split_source(source, str(tmp_path / "out"), THREE)
    record = tmp_path / "out" / "split.json"
    right = record.read_bytes()
    record.write_text(json.dumps({"fingerprint": "another", "parts": {}}))
    assert split_source(source, str(tmp_path / "out"), THREE).made
    assert record.read_bytes() == right
    record.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        split_source(source, str(tmp_path / "out"), THREE)


def test_shards_of_something_else_are_not_mixed_in(source: str, tmp_path: Path) -> None:
    write(tmp_path / "out" / "test", ["a text"])
    with pytest.raises(UserError, match="something else"):
        split_source(source, str(tmp_path / "out"), THREE)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test"]


def test_a_damaged_plan_is_refused(source: str, tmp_path: Path) -> None:
    split_source(source, str(tmp_path / "out"), THREE)
    plan = tmp_path / "out" / "parts.parquet"
    (tmp_path / "out" / "split.json").unlink()
    whole = plan.read_bytes()
    settings = json.loads(pyarrow.parquet.read_schema(plan).metadata[b"settings"])
    fingerprint = pyarrow.parquet.read_schema(plan).metadata[b"fingerprint"].decode()
    right = read_plan(str(tmp_path / "out"), fingerprint, settings)
    assert right is not None
    harmless = 0
    for place in np.linspace(0, len(whole) - 1, 400).astype(int):
        plan.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = read_plan(str(tmp_path / "out"), fingerprint, settings)
        except UserError:
            continue
        harmless += 1  # a statistic that nobody reads, say
        assert found is not None
        assert found.parts.tolist() == right.parts.tolist()
        assert (found.keys, found.facts, found.tables) == (right.keys, right.facts, right.tables)
    assert harmless < 100
    plan.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        split_source(source, str(tmp_path / "out"), THREE)
    split_source(source, str(tmp_path / "out"), THREE, overwrite=True)
    assert plan.read_bytes() == whole


KILLER = """
import os, signal, sys
import webdataset
from headrace.cli import main
from headrace.shards import ShardWriter, storage

def deadly(plain, last, applies=lambda args: True):
    calls = 0
    def call(*args):
        nonlocal calls
        calls += applies(args)
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*args)
    return call

folder, *command = sys.argv[1:]
for when in ("inside", "between", "before"):
    child = os.fork()
    if not child:
        if when == "inside":
            ShardWriter.write = deadly(ShardWriter.write, 900)
        elif when == "between":
            ShardWriter.close = deadly(ShardWriter.close, 2)
        else:
            named = lambda args: args[0].endswith("split.json")
            storage.write_atomically = deadly(storage.write_atomically, 1, named)
        main([*command, "--output", f"{folder}/{when}"])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


def test_kill_9_and_start_again(source: str, tmp_path: Path) -> None:
    """In the middle of a shard, between two parts, and when only the record is missing."""
    options = ["--by", "share", "0.5,0.3,0.2", "--stratify", "label", "--samples-per-shard", "70"]
    command = ["split", source, *options]
    process = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    assert main([*command, "--output", str(tmp_path / "whole")]) == 0
    whole = files_of(tmp_path / "whole")
    for when in ("inside", "between", "before"):
        left = files_of(tmp_path / when)
        assert len(left) > 4
        assert Path("split.json") not in left
        assert main([*command, "--output", str(tmp_path / when)]) == 0
        assert files_of(tmp_path / when) == whole


def files_of(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
