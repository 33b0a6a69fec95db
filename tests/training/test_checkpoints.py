"""Checkpoints: complete or not there."""

import json
import shutil
import threading
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.config.checkpoint import CheckpointConfig
from headrace.errors import SaveError, UserError
from headrace.file_hash import hash_of
from headrace.training import checkpoint_states
from headrace.training.checkpoint_marker import (
    MARKER,
    FileFacts,
    Marker,
    damage_of,
    read_marker,
    share_of,
)
from headrace.training.checkpoints import Checkpoints


class FileEngine:
    """Stands in for DeepSpeed's engine: it saves one state, as the main rank without ZeRO does.

    The real engine is used in ``test_resume.py`` and ``test_faults.py``; here the moment of a
    crash has to be chosen.
    """

    checkpoint_engine = None

    def __init__(self, crash=False, stage=0, bf16=False, step=0):
        self.crash = crash
        self.bf16 = bf16
        self.stage = stage
        self.step = step

    def zero_optimization_stage(self):
        return self.stage

    def fp16_enabled(self):
        return False

    def bfloat16_enabled(self):
        return self.bf16

    def save_checkpoint(self, folder, tag, client_state, save_latest):
        weights = torch.full((100,), float(self.step))
        state = {"weights": weights, "tied": weights.view(10, 10), **client_state}
        self.checkpoint_engine.save(state, f"{folder}/{tag}/weights.pt")
        if self.crash:
            raise KeyboardInterrupt

    def load_checkpoint(self, folder, tag):
        state = torch.load(f"{folder}/{tag}/weights.pt")
        self.step = state["weights"][0].item()
        return folder, state


class TrainedEngine(FileEngine):
    """Saves the weights that it trains, not others."""

    def __init__(self):
        super().__init__()
        self.weights = torch.zeros(100)

    def save_checkpoint(self, folder, tag, client_state, save_latest):
        state = {"weights": self.weights, "tied": self.weights.view(10, 10), **client_state}
        self.checkpoint_engine.save(state, f"{folder}/{tag}/weights.pt")


def after(event):
    """Writes states when an event has come."""

    def write(states, write=checkpoint_states.write_states):
        event.wait()
        return write(states)

    return write


def failing(error):
    def write(states):
        raise error

    return write


@pytest.fixture
def checkpoints(tmp_path, world):
    return Checkpoints(tmp_path / "checkpoints", world, CheckpointConfig(keep_last=2))


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_the_newest_is_found_and_gives_its_state_back(checkpoints):
    engine = FileEngine()
    for step in (5, 10):
        checkpoints.save(engine, step, {"step": step})
    newest = checkpoints.agree_on_newest()
    assert newest.name == "step-000010"
    assert checkpoints.load(engine, newest) == {"step": 10}


def test_only_the_last_ones_are_kept(checkpoints):
    for step in (5, 10, 15):
        checkpoints.save(FileEngine(), step, {})
    assert names(checkpoints) == ["step-000010", "step-000015"]


def test_a_crash_while_saving_leaves_the_one_before(checkpoints):
    checkpoints.save(FileEngine(), 5, {"step": 5})
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(FileEngine(crash=True), 10, {"step": 10})
    assert checkpoints.agree_on_newest().name == "step-000005"
    checkpoints.clean()
    assert names(checkpoints) == ["step-000005"]


def flip_a_bit(path, place=-20):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ("no marker", "no COMPLETE marker"),
        ("missing file", "state/weights.pt is missing"),
        ("short file", "state/weights.pt has 1 bytes instead of"),
        ("flipped bit", "state/weights.pt is not as it was written"),
        ("flipped bit of the marker", "COMPLETE is not as it was written"),
        ("torn marker", "COMPLETE is torn"),
    ],
)
def test_a_damaged_one_is_left_out_with_a_warning_that_names_the_file(
    checkpoints, caplog, damage, named
):
    for step in (5, 10):
        checkpoints.save(FileEngine(), step, {})
    newest = checkpoints.folder / "step-000010"
    if damage == "no marker":
        (newest / MARKER).unlink()
    elif damage == "missing file":
        (newest / "state" / "weights.pt").unlink()
    elif damage == "short file":
        (newest / "state" / "weights.pt").write_bytes(b"w")
    elif damage == "flipped bit":
        flip_a_bit(newest / "state" / "weights.pt")
    elif damage == "flipped bit of the marker":
        content = (newest / MARKER).read_text()
        (newest / MARKER).write_text(content.replace('"zero_stage": 0', '"zero_stage": 1'))
    else:
        (newest / MARKER).write_text('{"step": 10, "fil')
    assert checkpoints.agree_on_newest().name == "step-000005"
    assert named in caplog.text
    assert "step-000005 is looked at instead" in caplog.text


@given(data=st.data())
def test_any_flipped_bit_of_any_file_is_noticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    content = data.draw(st.binary(min_size=1, max_size=200))
    (folder / "file").write_bytes(content)
    Marker(3, {"world_size": 1}, None, {"file": FileFacts(len(content), hash_of(folder / "file"))}
           ).write(folder)  # fmt: skip
    written = read_marker(folder)
    assert damage_of(folder, written.files) is None
    name = data.draw(st.sampled_from(["file", MARKER]))
    changed = bytearray((folder / name).read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(changed)
    try:
        marker = read_marker(folder)
    except ValueError:
        return
    if name == MARKER:  # a blank that became a tab says the same
        assert marker == written
    else:
        assert damage_of(folder, marker.files) is not None


@given(sizes=st.lists(st.integers(0, 10**12), max_size=30), ranks=st.integers(1, 9))
def test_files_are_shared_out_so_that_each_is_read_once(sizes, ranks):
    files = {str(number): FileFacts(size, None) for number, size in enumerate(sizes)}
    shares = [share_of(files, rank, ranks) for rank in range(ranks)]
    assert sorted(name for share in shares for name in share) == sorted(files)
    loads = [sum(facts.size for facts in share.values()) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


def test_one_of_an_earlier_version_is_judged_by_its_sizes(checkpoints):
    checkpoints.save(FileEngine(step=5), 5, {"step": 5})
    folder = checkpoints.folder / "step-000005"
    content = json.loads((folder / MARKER).read_text())
    files = {name: facts["bytes"] for name, facts in content["files"].items()}
    old = {key: content[key] for key in ("step", "world_size", "zero_stage", "precision")}
    (folder / MARKER).write_text(json.dumps({**old, "files": files}))
    engine = FileEngine()
    assert checkpoints.load(engine, checkpoints.agree_on_newest()) == {"step": 5}
    assert engine.step == 5
    (folder / "state" / "weights.pt").write_bytes(b"w")
    assert checkpoints.agree_on_newest() is None


def test_tensors_that_share_memory_are_written_once(checkpoints):
    checkpoints.save(FileEngine(), 5, {})
    marker = read_marker(checkpoints.folder / "step-000005")
    assert 400 < marker.size < 800 + 1500
    state = torch.load(checkpoints.folder / "step-000005" / "state" / "weights.pt")
    assert state["tied"].untyped_storage().data_ptr() == state["weights"].data_ptr()


def test_the_same_step_can_be_saved_again(checkpoints):
    for state in ({"try": 1}, {"try": 2}):
        checkpoints.save(FileEngine(), 5, state)
    assert checkpoints.load(FileEngine(), checkpoints.agree_on_newest()) == {"try": 2}


def test_another_zero_stage_is_refused_by_name(checkpoints):
    checkpoints.save(FileEngine(), 5, {})
    with pytest.raises(UserError, match="zero_stage 0, this run has 2"):
        checkpoints.load(FileEngine(stage=2), checkpoints.agree_on_newest())


def test_another_precision_is_refused_by_name(checkpoints):
    checkpoints.save(FileEngine(), 5, {})
    with pytest.raises(UserError, match="precision fp32, this run has bf16"):
        checkpoints.load(FileEngine(bf16=True), checkpoints.agree_on_newest())


def test_steps_are_ordered_as_numbers(checkpoints):
    for step in (999_998, 999_999, 1_000_000):
        checkpoints.save(FileEngine(), step, {"step": step})
    assert checkpoints.agree_on_newest().name == "step-1000000"
    assert names(checkpoints) == ["step-1000000", "step-999999"]


def test_a_damaged_later_checkpoint_does_not_push_out_good_ones(checkpoints):
    checkpoints.settings = CheckpointConfig(keep_last=1)
    checkpoints.save(FileEngine(), 10, {})
    (checkpoints.folder / "step-000010" / MARKER).unlink()
    assert checkpoints.agree_on_newest() is None
    checkpoints.save(FileEngine(), 5, {"step": 5})
    assert checkpoints.agree_on_newest().name == "step-000005"


def test_no_checkpoint_is_no_error(checkpoints):
    checkpoints.clean()
    assert checkpoints.agree_on_newest() is None


def test_what_is_kept_for_good_survives_the_end_of_the_branch(checkpoints):
    checkpoints.settings = CheckpointConfig(keep_last=1, keep_best=1, keep_every=4)
    for step, loss in ((2, 0.5), (4, None), (6, 0.7), (8, None), (9, None)):
        checkpoints.save(FileEngine(), step, {}, validation_loss=loss)
    assert names(checkpoints) == ["step-000002", "step-000004", "step-000008", "step-000009"]
    checkpoints.end()
    assert names(checkpoints) == ["step-000002", "step-000004", "step-000008"]
    checkpoints.settings = CheckpointConfig()
    checkpoints.end()
    assert not checkpoints.folder.exists()


def test_a_checkpoint_is_due_by_steps_and_by_time(checkpoints, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("headrace.training.checkpoints.time.monotonic", lambda: now[0])
    settings = CheckpointConfig(every_steps=10, every_seconds=60, keep_every=25)
    own = Checkpoints(checkpoints.folder, checkpoints.world, settings)
    assert [step for step in range(1, 51) if own.is_due(step)] == [10, 20, 25, 30, 40, 50]
    assert not own.is_due_by_time()
    now[0] += 61
    assert own.is_due_by_time()
    own.save(FileEngine(), 7, {})
    assert not own.is_due_by_time()


def test_a_background_save_holds_the_state_of_its_step(checkpoints, monkeypatch):
    """What is trained on changes while the thread writes."""
    checkpoints.settings = CheckpointConfig(asynchronous=True)
    go_on = threading.Event()
    monkeypatch.setattr(checkpoint_states, "write_states", after(go_on))
    engine = TrainedEngine()
    assert checkpoints.save(engine, 5, {"step": 5})
    engine.weights += 1
    assert not checkpoints.is_written
    assert checkpoints.agree_on_newest() is None
    go_on.set()
    assert checkpoints.finish()
    assert checkpoints.load(engine, checkpoints.agree_on_newest()) == {"step": 5}
    assert engine.step == 0
    state = torch.load(checkpoints.folder / "step-000005" / "state" / "weights.pt")
    assert state["tied"].untyped_storage().data_ptr() == state["weights"].data_ptr()


def test_a_second_save_waits_for_the_first(checkpoints, monkeypatch):
    checkpoints.settings = CheckpointConfig(asynchronous=True)
    go_on = threading.Event()
    monkeypatch.setattr(checkpoint_states, "write_states", after(go_on))
    checkpoints.save(TrainedEngine(), 5, {})
    threading.Timer(0.05, go_on.set).start()
    checkpoints.save(TrainedEngine(), 10, {})
    assert names(checkpoints)[-1] == "step-000005"
    checkpoints.finish()
    assert names(checkpoints) == ["step-000005", "step-000010"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_save_that_fails_keeps_the_one_before(checkpoints, monkeypatch, caplog, asynchronous):
    checkpoints.save(FileEngine(), 5, {})
    checkpoints.settings = CheckpointConfig(asynchronous=asynchronous)
    monkeypatch.setattr(checkpoint_states, "write_states", failing(OSError(28, "disk is full")))
    assert checkpoints.save(FileEngine(), 10, {}) is asynchronous
    assert checkpoints.finish() is not asynchronous
    assert "step 10 is not saved: disk is full on rank 0 (400 bytes needed," in caplog.text
    assert "the newest one is step-000005" in caplog.text
    assert names(checkpoints) == ["step-000005"]


def test_a_fault_of_the_thread_is_raised_when_the_checkpoint_is_to_count(checkpoints, monkeypatch):
    checkpoints.settings = CheckpointConfig(asynchronous=True)
    monkeypatch.setattr(checkpoint_states, "write_states", failing(RuntimeError("no pickle")))
    checkpoints.save(FileEngine(), 10, {})
    with pytest.raises(SaveError, match=r"rank 0 could not write .* RuntimeError: no pickle"):
        checkpoints.finish()


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(checkpoints, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=399))
    assert not checkpoints.save(FileEngine(), 5, {})
    assert names(checkpoints) == []


@pytest.mark.parametrize("room", [0, 100, 4000, 39_000, 40_500, 41_000])
def test_a_disk_that_fills_up_at_any_byte_is_said_to_be_full(tmp_path, monkeypatch, room):
    """Torch, which ends its file all the same, must not hide it."""
    write_all = checkpoint_states.storage.write_all
    written = [0]

    def write(file, data):
        written[0] += len(data)
        if written[0] > room:
            raise OSError(28, "No space left on device")
        write_all(file, data)

    monkeypatch.setattr(checkpoint_states.storage, "write_all", write)
    with pytest.raises(OSError, match="No space left"):
        checkpoint_states.write_states([(tmp_path / "state.pt", {"a": torch.ones(10_000)})])
