"""Phases of a run that is under way: those to come may be edited, those that have begun not."""

import json

import pytest

from headrace.config import load_run_config
from headrace.errors import ConfigError, StopRequested
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

PLANNED = [{"from_epoch": 1, "weights": {"hi": 1}}]
EDITED = [{"from_epoch": 1, "weights": {"en": 3, "zh": 1}, "max_share": {"en": 0.7}}]
STEPS = 30
"""Epochs have 19 steps of 16 samples, the last of 12: the second phase begins at step 19."""


@pytest.fixture
def run(small_corpus, tmp_path, world, stop_after):
    """Train in a run folder with these phases; a number stops it after about as many steps."""

    def start(folder, phases, stop=None, **mixture):
        stage = {
            "name": "all", "epochs": 2, "max_steps": STEPS, "keep_best": "last",
            "mixture": {"temperature": 0.5, "phases": phases, **mixture},
        }  # fmt: skip
        output = tmp_path / folder
        path = small_corpus.write_config(
            tmp_path / f"{folder}.json", output, **{"headrace.stages": [stage]}
        )
        config = load_run_config(path)
        flag = StopFlag() if stop is None else stop_after(stop)
        train_in_group(config, expand_stages(config), world, flag)
        return output

    return start


def test_a_phase_to_come_may_be_edited_and_the_run_is_as_if_it_always_had_been(
    run, tmp_path, read_losses
):
    expected = read_losses(run("whole", EDITED))
    assert {step for *_, step, kind in expected if kind == "train"} == set(range(1, STEPS + 1))
    with pytest.raises(StopRequested):
        run("stopped", PLANNED, stop=12)
    assert 0 < len(read_losses(tmp_path / "stopped")) < 19
    assert read_losses(run("stopped", EDITED)) == expected
    # The order of the first epoch is the same, that of the second is not.
    other = read_losses(run("other", PLANNED))
    differing = {key[2] for key, loss in expected.items() if other[key] != loss}
    assert differing
    assert min(differing) == 20


def test_a_phase_that_has_begun_may_not_be_edited(run, tmp_path):
    with pytest.raises(StopRequested):
        run("out", PLANNED, stop=25)
    newest = max((tmp_path / "out" / "all" / "all" / "checkpoints").glob("step-*"))
    assert int(newest.name.removeprefix("step-")) > 19
    with pytest.raises(ConfigError, match="phase 2 of the mixture changed"):
        run("out", EDITED)
    with pytest.raises(ConfigError, match="phase 1 of the mixture changed"):
        run("out", PLANNED, max_epochs={"zh": 1})
    # A limit that is not reached so far changes nothing of what is past.
    finished = run("out", PLANNED, max_epochs={"hi": 1000})
    assert json.loads((finished / "results.json").read_text())["stages"][0]["steps"] == STEPS
