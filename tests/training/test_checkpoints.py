"""Checkpoints: complete or not there."""

import json
from pathlib import Path

import pytest

from headrace.errors import UserError
from headrace.training.checkpoints import MARKER, Checkpoints


class FileEngine:
    """Stands in for DeepSpeed's engine: it writes one file a rank and the client state.

    The real engine is used in ``test_resume.py`` and ``test_kill.py``; here the moment of a crash
    has to be chosen.
    """

    def __init__(self, crash=False, stage=0, bf16=False):
        self.crash = crash
        self.bf16 = bf16
        self.stage = stage
        self.loaded = None

    def zero_optimization_stage(self):
        return self.stage

    def fp16_enabled(self):
        return False

    def bfloat16_enabled(self):
        return self.bf16

    def save_checkpoint(self, folder, tag, client_state, save_latest):
        state = Path(folder) / tag
        state.mkdir()
        (state / "weights.pt").write_bytes(b"w" * 1000)
        if self.crash:
            raise KeyboardInterrupt
        (state / "client.json").write_text(json.dumps(client_state))

    def load_checkpoint(self, folder, tag):
        state = Path(folder) / tag
        self.loaded = folder
        return folder, json.loads((state / "client.json").read_text())


@pytest.fixture
def checkpoints(tmp_path, world):
    return Checkpoints(tmp_path / "checkpoints", world, keep_last=2)


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


@pytest.mark.parametrize("damage", ["no marker", "missing file", "short file", "torn marker"])
def test_an_incomplete_one_is_left_out_with_a_warning(checkpoints, caplog, damage):
    for step in (5, 10):
        checkpoints.save(FileEngine(), step, {})
    newest = checkpoints.folder / "step-000010"
    if damage == "no marker":
        (newest / MARKER).unlink()
    elif damage == "missing file":
        (newest / "state" / "weights.pt").unlink()
    elif damage == "short file":
        (newest / "state" / "weights.pt").write_bytes(b"w")
    else:
        (newest / MARKER).write_text('{"step": 10, "fil')
    assert checkpoints.agree_on_newest().name == "step-000005"
    assert "step-000010" in caplog.text


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
    checkpoints.keep_last = 1
    checkpoints.save(FileEngine(), 10, {})
    (checkpoints.folder / "step-000010" / MARKER).unlink()
    assert checkpoints.agree_on_newest() is None
    checkpoints.save(FileEngine(), 5, {"step": 5})
    assert checkpoints.agree_on_newest().name == "step-000005"


def test_no_checkpoint_is_no_error(checkpoints):
    checkpoints.clean()
    assert checkpoints.agree_on_newest() is None
