"""Runs that train on what ``headrace select`` chose."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import xxhash

from headrace.cli import main
from headrace.config import load_run_config
from headrace.errors import StopRequested, UserError
from headrace.shards.manifest import read_manifest
from headrace.shards.reader import ShardReader
from headrace.shards.writer import ShardWriter
from headrace.training.data import BatchMaker, encode_data, open_data, plan_batches
from headrace.training.quarantine import read_quarantine
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

BATCHINGS = {
    "samples": {"window_batches": 4},
    "tokens": {"type": "tokens", "tokens_per_batch": 400, "window_batches": 4},
    "packed": {"type": "packed", "window_batches": 2},
}
STAGE = {"name": "all", "epochs": 2, "keep_best": "last"}


def select_with_command(readers, folder, *options):
    """Choose with the real command, by vectors made of the keys."""
    ids = [
        f"{language}/{key}"
        for language, reader in readers.items()
        for shard in range(len(reader.manifest.shards))
        for key in reader.keys(shard)
    ]
    folder.mkdir(parents=True)
    vectors = np.random.default_rng(4).normal(size=(len(ids), 8)).astype(np.float32) + 0.5
    np.save(folder / "vectors.npy", vectors)
    (folder / "ids.txt").write_text("".join(f"{name}\n" for name in ids))
    assert main([
        "select", "--vectors", str(folder / "vectors.npy"), "--ids", str(folder / "ids.txt"),
        "--output", str(folder / "selected"), "--trade-off", "1", *options,
    ]) == 0  # fmt: skip
    return folder / "selected"


def write_selection(folder, ids, **changes):
    """A selection of exactly these ids, in the form of the command."""
    folder.mkdir(exist_ok=True)
    rows = folder / "selection.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": ids, "rank": range(1, len(ids) + 1)}), rows)
    report = {
        "version": 2,
        "rows_hash": xxhash.xxh3_128_hexdigest(rows.read_bytes()),
        "chosen": len(ids),
        "sources": None,
        **changes,
    }
    (folder / "selection.json").write_text(json.dumps(report))
    return str(folder)


def ids_of(folder):
    return pyarrow.parquet.read_table(Path(folder) / "selection.parquet")["id"].to_pylist()


@pytest.fixture(scope="module")
def readers(small_corpus):
    urls = {name: small_corpus.source(name, "train") for name in small_corpus.languages}
    return {name: ShardReader(url) for name, url in urls.items()}


@pytest.fixture(scope="module")
def selected(readers, tmp_path_factory):
    """What the command chose: a fifth of each language."""
    folder = tmp_path_factory.mktemp("selection") / "made"
    return str(select_with_command(readers, folder, "--fraction", "0.2", "--proportional"))


@pytest.fixture
def write_config(small_corpus, tmp_path):
    def write(name, selection, **changes):
        path = small_corpus.write_config(
            tmp_path / f"{name}.json",
            tmp_path / name,
            **{
                "headrace.data.selection": selection,
                "headrace.stages": [STAGE],
                **changes,
            },
        )
        return load_run_config(path)

    return write


def train(config, world, flag=None):
    train_in_group(config, expand_stages(config), world, flag or StopFlag())


def served(config, branch, data, epochs):
    """(language, shard, number in the view) of all samples of each epoch, and the batches."""
    plan = plan_batches(config, branch, data)
    found = []
    for epoch in range(epochs):
        members = []
        for step in range(plan.steps_before(epoch), plan.steps_before(epoch + 1)):
            batch = plan.batch(step)
            locations = getattr(batch, "samples", batch)
            members += zip(
                [branch.languages[number] for number in locations.source.tolist()],
                locations.shard.tolist(),
                locations.sample.tolist(),
                strict=True,
            )
        found.append(members)
    return found


@pytest.mark.parametrize("kind", BATCHINGS)
def test_every_epoch_has_exactly_the_chosen_samples(write_config, readers, selected, kind):
    config = write_config("out", selected, **{"headrace.batching": BATCHINGS[kind]})
    (branch,) = expand_stages(config)
    opened = open_data(config)
    data = encode_data(opened, config)
    wanted = sorted(ids_of(selected))
    assert len(wanted) == 60
    for members in served(config, branch, data, 2):
        found = [
            f"{name}/{readers[name].keys(shard)[opened.chosen[name].shards[shard][sample]]}"
            for name, shard, sample in members
        ]
        assert sorted(found) == wanted


def test_batches_hold_the_tokens_and_labels_of_the_chosen_samples(write_config, readers, selected):
    config = write_config("out", selected)
    (branch,) = expand_stages(config)
    data = encode_data(open_data(config), config)
    whole_config = write_config("whole", None)
    whole = encode_data(open_data(whole_config), whole_config)
    expected = []
    for name in ids_of(selected):
        language, _, key = name.partition("/")
        (place,) = [
            (shard, keys.index(key))
            for shard in range(len(readers[language].manifest.shards))
            if key in (keys := readers[language].keys(shard))
        ]
        shard = whole.train[language].shards[place[0]]
        expected.append((tuple(shard.tokens(place[1])), tuple(shard.labels(place[1]))))
    plan = plan_batches(config, branch, data)
    maker = BatchMaker(
        data, plan, branch, rank=0, world_size=1, micro_batch_size=16, accumulation=1
    )
    found = []
    for step in range(plan.steps_before(1)):
        batch = maker.make(step)
        labelled = tokens = 0
        for part in batch.micro_batches:
            for row in range(len(part["input_ids"])):
                real = part["attention_mask"][row].bool()
                labels = tuple(part["labels"][row][real].tolist())
                found.append((tuple(part["input_ids"][row][real].tolist()), labels))
                tokens += len(labels)
                labelled += sum(label != -100 for label in labels)
        assert (batch.labelled_tokens, batch.real_tokens) == (labelled, tokens)
    assert sorted(found) == sorted(expected)
    # Each accessor of a sample counts through the choice.
    for language, source in data.train.items():
        for number, shard in enumerate(source.shards):
            all_of_it = whole.train[language].shards[number]
            for sample, place in enumerate(shard.numbers.tolist()):
                assert shard.tokens(sample).tolist() == all_of_it.tokens(place).tolist()
                assert shard.word_tags(sample).tolist() == all_of_it.word_tags(place).tolist()
                assert shard.subset(sample) == all_of_it.subset(place)
            with pytest.raises(IndexError):
                shard.tokens(len(shard))


def test_the_losses_are_those_of_a_source_of_just_these_samples(
    write_config, readers, world, tmp_path, read_losses
):
    """Shards of ten are made of ten samples of each shard: with equal sizes the order is equal."""
    urls, ids = {}, []
    for language, reader in readers.items():
        urls[language] = str(tmp_path / "part" / language)
        with ShardWriter(urls[language], samples_per_shard=10) as writer:
            for number, entry in enumerate(reader.manifest.shards):
                picked = np.random.default_rng(number).permutation(entry.samples)[:10]
                for sample in sorted(picked.tolist()):
                    writer.write(reader.shard(number)[sample])
                    ids.append(f"{language}/{reader.keys(number)[sample]}")
    assert {entry.samples for entry in read_manifest(urls["en"]).shards} == {10}
    selection = write_selection(tmp_path / "selection", ids[::-1])
    short = {"headrace.stages": [{**STAGE, "max_steps": 6}]}
    train(write_config("chosen", selection, **short), world)
    part = {"headrace.data.train": urls, "headrace.data.cache_dir": str(tmp_path / "encoded")}
    train(write_config("part", None, **short, **part), world)
    train(write_config("whole", None, **short), world)
    losses = read_losses(tmp_path / "chosen")
    assert losses == read_losses(tmp_path / "part")
    assert losses != read_losses(tmp_path / "whole")


def test_a_checkpoint_refuses_another_selection(
    write_config, readers, world, tmp_path, read_losses, stop_after
):
    names = [f"{name}/{key}" for name in readers for key in readers[name].keys(0)]
    selection = write_selection(tmp_path / "selection", names[::2])
    config = write_config("out", selection)
    with pytest.raises(StopRequested):
        train(config, world, stop_after(4))
    done = read_losses(config.output)
    write_selection(tmp_path / "selection", names[1::2])
    with pytest.raises(UserError, match="sources changed since the checkpoint was saved"):
        train(config, world)
    # The same samples in another order of rank are the same selection.
    write_selection(tmp_path / "selection", names[::2][::-1])
    train(config, world)
    assert done.items() <= read_losses(config.output).items()
    elsewhere = write_config("out", write_selection(tmp_path / "other", names[::2]))
    with pytest.raises(UserError, match=r"headrace\.data\.selection"):
        train(elsewhere, world)


@pytest.mark.parametrize("kind", BATCHINGS)
def test_a_damaged_shard_is_left_out_of_the_selection(
    write_config, small_corpus, selected, tmp_path, caplog, kind, flip
):
    urls = {}
    for name in small_corpus.languages:
        urls[name] = str(tmp_path / "data" / name)
        shutil.copytree(small_corpus.source(name, "train"), urls[name])
    changes = {
        "headrace.data.train": urls,
        "headrace.data.bad_shards": "quarantine",
        "headrace.batching": BATCHINGS[kind],
    }

    def encoded(folder):
        config = write_config(
            folder, selected, **changes, **{"headrace.data.cache_dir": str(tmp_path / folder)}
        )
        opened = open_data(config)
        return config, opened, encode_data(opened, config)

    config, _, sound = encoded("sound")
    (branch,) = expand_stages(config)
    flip(Path(urls["en"]) / "shard-000001.tar")
    config_of_part, opened, part = encoded("part")
    assert "shard-000001.tar is left out" in caplog.text
    assert len(opened.chosen["en"].shards[1])
    expected = [
        sorted(member for member in members if member[:2] != ("en", 1))
        for members in served(config, branch, sound, 2)
    ]
    found = served(config_of_part, branch, part, 2)
    assert [sorted(members) for members in found] == expected
    # Leaving out after the choice is leaving out before it.
    later = sound.train["en"].leaving_out([1])
    assert later.left_out == part.train["en"].left_out == {1}
    assert len(later.shards[1]) == len(opened.chosen["en"].shards[1])
    assert later.shards[1].lengths.tolist() == part.train["en"].shards[1].lengths.tolist()


def test_a_run_with_a_selection_goes_on_without_a_damaged_shard(
    write_config, small_corpus, readers, world, tmp_path, flip
):
    urls = {name: small_corpus.source(name, "train") for name in small_corpus.languages}
    urls["en"] = str(tmp_path / "en")
    shutil.copytree(small_corpus.source("en", "train"), urls["en"])
    flip(Path(urls["en"]) / "shard-000002.tar")
    everywhere = [
        f"{name}/{readers[name].keys(shard)[number]}"
        for name in readers
        for shard in range(len(readers[name].manifest.shards))
        for number in (1, 5, 7)
    ]
    selection = write_selection(tmp_path / "selection", everywhere)
    changes = {
        "headrace.data.train": urls,
        "headrace.data.cache_dir": str(tmp_path / "encoded"),
        "headrace.data.bad_shards": "quarantine",
        "headrace.stages": [{**STAGE, "max_steps": 2}],
    }
    config = write_config("out", selection, **changes)
    train(config, world)
    assert read_quarantine(config.output) == {"en": ["shard-000002.tar"], "hi": [], "zh": []}
    # All that is chosen of English lies in the damaged shard: nothing of it is left.
    only = [
        name for name in everywhere
        if not name.startswith("en/") or name.partition("/")[2] in readers["en"].keys(2)
    ]  # fmt: skip
    alone = write_config("alone", write_selection(tmp_path / "only", only), **changes)
    with pytest.raises(UserError, match="no shard is intact"):
        train(alone, world)


def problems_of(config):
    with pytest.raises(UserError) as caught:
        open_data(config)
    return [str(problem) for problem in caught.value.problems]


def test_a_folder_that_is_no_selection_is_refused(write_config, selected, tmp_path):
    def refused(folder):
        (problem,) = problems_of(write_config("out", str(folder)))
        return problem

    assert "no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "not a selection" in refused(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    assert "a file is in the way" in refused(tmp_path / "file")
    assert "not a folder on this machine" in refused("s3://bucket/selection")
    other = Path(write_selection(tmp_path / "version", ["en/a"], version=1))
    assert "not of version 2" in refused(other)

    files = ("selection.json", "selection.parquet")
    sound = {name: (Path(selected) / name).read_bytes() for name in files}
    rows = sound["selection.parquet"]
    damaged = tmp_path / "damaged"
    for name, bad in (
        ("selection.json", b"{"),
        ("selection.json", b"[]"),
        ("selection.json", b'{"version": 2}'),
        ("selection.json", b'{"version": 2, "rows_hash": 3, "chosen": 2}'),
        ("selection.parquet", rows.replace(b"en/", b"hi/", 1)),
        ("selection.parquet", rows[:-30]),
        ("selection.parquet", b""),
    ):
        damaged.mkdir(exist_ok=True)
        for each, content in {**sound, name: bad}.items():
            (damaged / each).write_bytes(content)
        assert "the selection is damaged" in refused(damaged), bad
    (damaged / "selection.parquet").unlink()
    assert "the selection is damaged" in refused(damaged)


def rewritten(columns):
    return lambda path: pyarrow.parquet.write_table(pyarrow.table(columns), path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no Parquet"),
        lambda path: path.write_bytes(path.read_bytes()[:-8] + b"\xff\xff\xff\x7fPAR1"),
        rewritten({"name": ["en/a"]}),
        rewritten({"id": [17]}),
        rewritten({"id": pyarrow.array([None], "string")}),
        rewritten({"id": ["en/a", "en/b"]}),
    ],
)
def test_rows_that_are_as_written_and_no_selection(write_config, tmp_path, damage):
    """The hash fits, as the report was written for these bytes; what they hold does not."""
    folder = Path(write_selection(tmp_path / "made", ["en/a"]))
    damage(folder / "selection.parquet")
    report = json.loads((folder / "selection.json").read_text())
    report["rows_hash"] = xxhash.xxh3_128_hexdigest((folder / "selection.parquet").read_bytes())
    (folder / "selection.json").write_text(json.dumps(report))
    (problem,) = problems_of(write_config("out", str(folder)))
    assert "the selection is damaged" in problem
    assert "selection.parquet" in problem


def test_ids_that_do_not_fit_the_run_are_all_named(write_config, readers, tmp_path):
    key = readers["en"].keys(0)[0]
    names = [f"en/{key}", f"en/{key}", "en/nothing", "sv/a", "sv/b", "uk/c", "17"]
    problems = problems_of(write_config("out", write_selection(tmp_path / "bad", names)))
    expected = [
        r"ids without the name of a source \(value: 17\)",
        rf"ids that are there twice \(value: en/{re.escape(key)}\)",
        r"languages that the run does not have \(value: sv 2, uk 1\)",
        r"no sample of some languages of the run \(value: hi, zh\)",
        r"chosen samples that the source does not have \(value: nothing\)",
    ]
    assert len(problems) == len(expected)
    for problem, pattern in zip(problems, expected, strict=True):
        assert re.search(pattern, problem), problem


def test_a_source_that_changed_since_is_refused(write_config, readers, tmp_path):
    names = [f"{name}/{reader.keys(0)[3]}" for name, reader in readers.items()]
    prints = {name: reader.manifest.fingerprint for name, reader in readers.items()}
    open_data(write_config("out", write_selection(tmp_path / "a", names, sources=prints)))
    prints["hi"] = "0" * 32
    (problem,) = problems_of(
        write_config("out", write_selection(tmp_path / "a", names, sources=prints))
    )
    assert "hi has changed since the selection was made" in problem


@pytest.fixture
def config_file(small_corpus, tmp_path, selected):
    return small_corpus.write_config(
        tmp_path / "run.json",
        tmp_path / "run",
        **{
            "headrace.data.selection": selected,
            "headrace.stages": [{**STAGE, "mixture": {"temperature": 0.5}}],
        },
    )


def test_the_commands_show_the_chosen_samples(config_file, selected, readers, capsys, tmp_path):
    """As many as are trained on, and just these."""
    assert main(["train", "--ds_config", str(config_file), "--dry-run", "--ranks", "1"]) == 0
    text = capsys.readouterr().out
    assert f"selection      60 of 300 samples: {selected}\n" in text
    (stage,) = [line for line in text.splitlines() if line.startswith("all ")]
    assert stage.split()[1:5] == ["model", "60", "2", "8"]

    assert main(["plan", str(config_file), "--json", str(tmp_path / "plan.json")]) == 0
    (branch,) = json.loads((tmp_path / "plan.json").read_text())["branches"]
    assert {each["name"]: each["samples"] for each in branch["sources"]} == {
        "en": 30, "hi": 18, "zh": 12,
    }  # fmt: skip
    assert sum(each["drawn"] for each in branch["sources"]) == 120

    capsys.readouterr()
    assert main(["preview", str(config_file), "-n", "120"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = re.compile(r"\d+  \(epoch .*\)  (\w+), pass (\d+), (\S+), sample (\d+)")
    seen = set()
    for line, following in pairwise(lines):
        if match := place.fullmatch(line):
            language, number, shard, sample = match.groups()
            key = following.split()[0]
            names = [entry.name for entry in readers[language].manifest.shards]
            assert readers[language].keys(names.index(shard))[int(sample)] == key
            if number == "1":
                seen.add(f"{language}/{key}")
    chosen = set(ids_of(selected))
    assert seen <= chosen
    # A square root makes the smaller languages come round twice and the largest not quite once.
    assert {name for name in chosen if not name.startswith("en/")} <= seen


@pytest.mark.parametrize("command", ["plan", "preview"])
def test_the_commands_refuse_what_training_refuses(config_file, tmp_path, capsys, command):
    broken = json.loads(config_file.read_text())
    broken["headrace"]["data"]["selection"] = write_selection(tmp_path / "bad", ["sv/a", "en/b"])
    config_file.write_text(json.dumps(broken))
    assert main([command, str(config_file)]) == 2
    text = capsys.readouterr().err
    for part in ("value: sv 1)", "value: hi, zh)", "value: b)"):
        assert part in text


def test_epoch_limits_are_checked_for_the_chosen_samples(small_corpus, readers, tmp_path, capsys):
    """They suit the whole data, of which half is English, and not a selection with less of it."""
    ids = [
        f"{name}/{key}"
        for name, count in (("en", 10), ("hi", 20), ("zh", 20))
        for key in readers[name].keys(0)[:count]
    ]
    stage = {**STAGE, "mixture": {"max_epochs": {"en": 3, "hi": 1, "zh": 1}}}
    words = ["train", "--dry-run", "--ranks", "1", "--ds_config", str(tmp_path / "run.json")]
    for selection, code in ((None, 0), (write_selection(tmp_path / "selection", ids), 2)):
        changes = {"headrace.data.selection": selection, "headrace.stages": [stage]}
        small_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **changes)
        assert main(words) == code
    assert "the stage ends after 1.4 epochs" in capsys.readouterr().err
