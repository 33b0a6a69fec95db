"""``headrace preview`` of a run: the samples that training takes, at any position."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from headrace.cli import main
from headrace.config import load_run_config
from headrace.shards.reader import ShardReader
from headrace.stream.sources import stream_source
from headrace.training.order import plan_branch
from headrace.training.stages import expand_stages

PLACE = re.compile(
    r"([\d,]+)  \(epoch (\d+), position ([\d,]+)\)  (\w+), pass (\d+), (\S+), sample (\d+)"
)


def shown(capsys, *words):
    """(position, epoch, position in it, source, pass, shard, sample, key) of each sample."""
    assert main(["preview", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = []
    for line, following in pairwise(lines):
        if match := PLACE.fullmatch(line):
            place = [part.replace(",", "") for part in match.groups()]
            key = following.split()[0]
            rows.append((*map(int, place[:3]), place[3], int(place[4]), *place[5:], key))
    return rows


@pytest.mark.parametrize(("epoch", "position"), [(0, 0), (1, 297), (3, 290)])
def test_the_samples_are_those_of_the_stream(run_config, small_corpus, capsys, epoch, position):
    words = ["--stage", "multilingual", "--epoch", str(epoch), "--position", str(position)]
    rows = shown(capsys, str(run_config), *words, "-n", "8")
    config = load_run_config(run_config)
    branch = expand_stages(config)[0]
    readers = [ShardReader(small_corpus.source(name, "train")) for name in branch.languages]
    sources = [
        stream_source(name, reader) for name, reader in zip(branch.languages, readers, strict=True)
    ]
    plan = plan_branch(branch, sources, config.headrace.seed)
    expected = []
    for total in range(300 * epoch + position, 300 * epoch + position + 8):
        number, place = divmod(total, 300)
        found = plan.locate(number, np.array([place]))
        source, shard, sample = (int(each[0]) for each in (found.source, found.shard, found.sample))
        opened = readers[source].shard(shard)
        name = readers[source].manifest.shards[shard].name
        language = branch.languages[source]
        expected.append((total, number, place, language, name, str(sample), opened.keys[sample]))
    assert [(*row[:4], *row[5:]) for row in rows] == expected


def test_every_pass_shows_each_sample_once(run_config, small_corpus, capsys):
    rows = shown(capsys, str(run_config), "--stage", "multilingual", "-n", "1200")
    keys: dict[tuple[str, int], list[str]] = {}
    for row in rows:
        keys.setdefault((row[3], row[4]), []).append(row[7])
    for (language, number), members in keys.items():
        everything = sorted(sample.key for sample in ShardReader(
            small_corpus.source(language, "train")))  # fmt: skip
        if (language, number + 1) in keys:
            assert sorted(members) == everything
        else:
            assert len(set(members)) == len(members)


def test_positions_count_over_the_whole_stage(run_config, capsys):
    words = [str(run_config), "--stage", "multilingual", "-n", "3"]
    first = shown(capsys, *words, "--position", "905")
    assert first == shown(capsys, *words, "--epoch", "3", "--position", "5")
    assert [row[0] for row in first] == [905, 906, 907]


def test_a_branch_is_chosen_by_its_name(run_config, capsys):
    rows = shown(capsys, str(run_config), "--branch", "zh", "-n", "2")
    assert {row[3] for row in rows} == {"zh"}
    assert main(["preview", str(run_config)]) == 2
    error = capsys.readouterr().err
    assert "--stage" in error
    assert "multilingual, monolingual/en, monolingual/zh" in error


def test_a_stage_that_ends_is_shown_to_its_end(run_config, capsys):
    limited = ["--set", "headrace.stages.0.mixture.max_epochs=1", "--stage", "multilingual"]
    rows = shown(capsys, str(run_config), *limited, "--position", "290", "-n", "100")
    assert rows[-1][0] == 299
    assert main(["preview", str(run_config), *limited, "--position", "300"]) == 2
    assert "--position: the stage ends before" in capsys.readouterr().err


def test_options_of_a_run_are_refused_for_a_source(run_config, small_corpus, capsys):
    source = small_corpus.source("en", "train")
    assert main(["preview", source, "--epoch", "2", "--stage", "x"]) == 2
    assert "--stage, --epoch" in capsys.readouterr().err
    assert main(["preview", str(run_config), "--key", "x", "--epoch", "-1", "-n", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["-n", "--epoch", "--key"]
    assert main(["preview", str(run_config), "--stage", "multilingual", "--epoch", "9" * 20]) == 2
    assert "out of range" in capsys.readouterr().err


SEQUENCE = re.compile(
    r"([\d,]+)  \(epoch (\d+), position ([\d,]+)\)  (\w+), pass (\d+), (\S+), sequence ([\d,]+)"
)


def test_the_sequences_of_a_language_model_are_those_of_its_batches(small_corpus, tmp_path, capsys):
    """With their masks: an epoch of both has the same sequences as often."""
    from headrace.commands.preview import _harmless
    from headrace.encoding.tokenizer import load_tokenizer
    from headrace.training.data import BatchMaker, encode_data, open_data, plan_batches

    path = small_corpus.write_config(
        tmp_path / "run.json", tmp_path / "run",
        **{"headrace.task": {"type": "masked_lm", "max_length": 24},
           "headrace.stages": [{"name": "text", "languages": ["zh", "hi"], "epochs": 2}]},
    )  # fmt: skip
    config = load_run_config(path)
    data = encode_data(open_data(config), config)
    (branch,) = expand_stages(config)
    plan = plan_batches(config, branch, data)
    maker = BatchMaker(
        data, plan, branch, rank=0, world_size=1, micro_batch_size=16, accumulation=1
    )
    tokenizer = load_tokenizer(small_corpus.tokenizer)
    steps = plan.steps_before(1)
    expected = [
        _harmless(tokenizer.decode(ids[mask.bool()]))
        for step in range(steps, 2 * steps)
        for micro in maker.make(step).micro_batches
        for ids, mask in zip(micro["input_ids"], micro["attention_mask"], strict=True)
    ]
    assert sum("<mask>" in text for text in expected) > len(expected) / 2
    words = ["preview", str(path), "--epoch", "1", "-n", str(len(expected))]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [
        following.removeprefix("  ")
        for line, following in pairwise(lines)
        if SEQUENCE.fullmatch(line)
    ]
    assert sorted(found) == sorted(expected)
    assert lines[-1] == f"stage text: {len(expected)} sequences an epoch"
