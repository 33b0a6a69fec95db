"""Stop signals while data is encoded, a model validated, a checkpoint saved; and the next start."""

import json
import signal

import pytest

from headrace.config import load_run_config
from headrace.encoding.store import META_FILE
from headrace.errors import StopRequested
from headrace.shards.reader import ShardReader
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

LANGUAGES = ["hi", "zh"]
STAGES = [{"name": "multilingual", "languages": LANGUAGES, "epochs": 2, "max_steps": 14}]
EPOCH = 10
"""Steps of the first; the second ends at step 14."""
BATCHES = 6
"""Of a validation."""


class StopAt(StopFlag):
    """A signal that arrives between two steps, when it is looked for the given number of times."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    @property
    def asked(self):
        self.looks -= 1
        if self.looks < 0:
            self.received = signal.SIGTERM
        return self.received is not None


@pytest.fixture(scope="module")
def run(small_corpus, world, tmp_path_factory):
    """Trains a run of two epochs."""
    folder = tmp_path_factory.mktemp("stops")

    def train(name, flag, **changes):
        path = small_corpus.write_config(
            folder / f"{name}.json",
            folder / name,
            **{
                "headrace.stages": STAGES,
                "train_micro_batch_size_per_gpu": 4,
                "headrace.data.train": {
                    each: small_corpus.source(each, "train") for each in LANGUAGES
                },
                "headrace.data.validation": {
                    each: small_corpus.source(each, "dev") for each in LANGUAGES
                },
                **changes,
            },
        )
        config = load_run_config(path)
        train_in_group(config, expand_stages(config), world, flag)
        return folder / name

    train.folder = folder
    return train


@pytest.fixture(scope="module")
def shards(small_corpus):
    """How often encoding looks for a signal when all shards are in the cache: once for each."""
    urls = [small_corpus.source(name, split) for name in LANGUAGES for split in ("train", "dev")]
    return sum(len(ShardReader(url).manifest.shards) for url in urls)


def facts(folder):
    """What a run has found out, without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    numbers = [
        (line["kind"], line["step"], line.get("loss"), line.get("metrics"), line.get("best"))
        for line in lines
        if line["kind"] != "start"  # which stands where the last start began
    ]
    result = json.loads((folder / "multilingual" / "all" / "result.json").read_text())
    return numbers, result["best_step"], result["validation_loss"]


@pytest.fixture(scope="module")
def uninterrupted(run):
    return facts(run("uninterrupted", StopFlag()))


def checkpoints(folder):
    found = (folder / "multilingual" / "all" / "checkpoints").glob("step-*")
    return sorted(int(path.name.removeprefix("step-")) for path in found)


@pytest.mark.parametrize(
    ("looks", "step"),
    [(2, EPOCH), (BATCHES + 1 + 3, 14)],  # the save of the first epoch looks once
    ids=["after an epoch", "after the last step"],
)
def test_a_validation_that_is_broken_off_is_done_after_the_next_start(
    run, shards, uninterrupted, looks, step
):
    name = f"validation-{step}"
    with pytest.raises(StopRequested, match=f"after step {step} "):
        run(name, StopAt(shards + looks))
    folder = run.folder / name
    assert max(checkpoints(folder)) == step
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [EPOCH] * (
        step > EPOCH
    )
    assert facts(run(name, StopFlag())) == uninterrupted


def test_a_signal_while_a_checkpoint_is_saved_ends_the_run_with_it(run, shards, uninterrupted):
    settings = {"headrace.checkpoint.every_steps": 3}
    with pytest.raises(StopRequested, match="after step 6 "):
        run("saving", StopAt(shards + 1), **settings)
    assert max(checkpoints(run.folder / "saving")) == 6
    assert facts(run("saving", StopFlag(), **settings)) == uninterrupted


def test_encoding_stops_within_a_shard_and_keeps_the_finished_ones(run, tmp_path, uninterrupted):
    """The run folder is not there before the data is known to be good."""
    settings = {"headrace.data.cache_dir": str(tmp_path / "cache")}
    with pytest.raises(StopRequested, match="while data was encoded"):
        run("encoding", StopAt(20), **settings)
    assert not (run.folder / "encoding").exists()
    finished = {path: path.read_bytes() for path in (tmp_path / "cache").rglob(META_FILE)}
    assert finished
    assert facts(run("encoding", StopFlag(), **settings)) == uninterrupted
    everything = {path: path.read_bytes() for path in (tmp_path / "cache").rglob(META_FILE)}
    assert len(everything) > len(finished)
    assert finished.items() <= everything.items()
