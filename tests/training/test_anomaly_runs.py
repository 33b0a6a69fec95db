"""Steps that are not applied, in real runs: at every ZeRO stage, in fp32 and bf16."""

import json
import math
from pathlib import Path

import pytest

from headrace.config import load_run_config
from headrace.errors import DivergedError, StopRequested
from headrace.training.run import train_in_group
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages

WORKERS = Path(__file__).parent / "workers"
STEPS = 12
BAD = 8
"""The step that something is planted in; the checkpoint before is that of step 6."""
PRECISIONS = [*((zero, "fp32") for zero in range(4)), (0, "bf16"), (2, "bf16")]
FEW = [(0, "fp32"), (3, "fp32"), (2, "bf16")]


@pytest.fixture(scope="module")
def runs(small_corpus, world, stop_after, tmp_path_factory):
    """Trains a short run with something planted in it; the same one only once."""
    folder = tmp_path_factory.mktemp("anomalies")
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(WORKERS))
    from planted_steps import planted

    known = {}

    def run(zero, precision, kind, steps=(BAD,), *, stop=None, **anomalies):
        key = json.dumps([zero, precision, kind, list(steps), stop, anomalies])
        if key in known:
            return known[key]
        output = known[key] = folder / str(len(known))
        path = small_corpus.write_config(
            output.with_suffix(".json"),
            output,
            **{
                "zero_optimization.stage": zero,
                "train_micro_batch_size_per_gpu": 8,
                "bf16.enabled": precision == "bf16",
                "headrace.stages": [{"name": "one", "max_steps": STEPS}],
                "headrace.checkpoint.every_steps": 3,
                "headrace.anomalies": anomalies,
            },
        )
        config = load_run_config(path)
        with planted(kind, steps):
            for flag in [stop_after(stop), StopFlag()] if stop else [StopFlag()]:
                try:
                    train_in_group(config, expand_stages(config), world, flag)
                except StopRequested:
                    assert stop
        return output

    run(3, "fp32", "nothing there")  # it leaves its linear layers behind in this process
    yield run
    patch.undo()


def lines_of(output):
    lines = [json.loads(line) for line in (output / "metrics.jsonl").open()]
    return [line for line in lines if line["kind"] == "train"]


def losses_of(output, without=()):
    return {line["step"]: line["loss"] for line in lines_of(output) if line["step"] not in without}


def records_of(output):
    path = output / "one" / "all" / "anomalies.jsonl"
    return [json.loads(line) for line in path.open()] if path.exists() else []


@pytest.mark.parametrize(
    ("kind", "zero", "precision"),
    [
        *(("gradient", *each) for each in PRECISIONS),
        ("loss", 0, "fp32"),
        *(pytest.param("loss", *each, marks=pytest.mark.extended) for each in PRECISIONS[1:]),
    ],
)
def test_a_step_that_is_skipped_changes_nothing(runs, kind, zero, precision):
    """As one without samples does; the step after sees it, and all that come."""
    skipped = runs(zero, precision, kind, not_finite="skip")
    expected = losses_of(runs(zero, precision, "nothing there"))
    assert len(expected) == STEPS - 1
    assert losses_of(skipped, {BAD}) == expected
    bad = lines_of(skipped)[BAD - 1]
    assert math.isnan(bad["loss"]) == (kind == "loss")
    assert math.isnan(bad["gradient_norm"])
    assert [line["skipped_steps"] for line in lines_of(skipped)] == [0] * 7 + [1] * 5


def test_the_samples_of_the_step_are_on_record(runs, small_corpus):
    from headrace.shards import ShardReader

    (record,) = records_of(runs(0, "fp32", "loss", not_finite="skip"))
    assert (record["kind"], record["step"]) == ("skip", BAD)
    assert record["reason"] == "the loss is nan"
    (entry,) = record["left_out"]
    assert entry["step"] == BAD
    assert len(set(entry["samples"])) == 16
    known = {
        f"{language}/{sample.key}"
        for language in small_corpus.languages
        for sample in ShardReader(small_corpus.source(language, "train"))
    }
    assert set(entry["samples"]) <= known


@pytest.mark.parametrize(("zero", "precision"), FEW)
def test_a_run_that_goes_back_leaves_the_bad_step_out(runs, zero, precision):
    """Nothing else is by chance, so the way back ends where a skip would."""
    back = runs(zero, precision, "loss", not_finite="rollback")
    assert losses_of(back, {BAD}) == losses_of(runs(zero, precision, "nothing there"))
    assert [line["step"] for line in lines_of(back)] == list(range(1, STEPS + 1))
    (record,) = records_of(back)
    assert (record["kind"], record["step"], record["back_to"]) == ("rollback", BAD, 6)


def test_steps_before_the_bad_one_can_be_left_out_as_well(runs):
    back = runs(1, "fp32", "loss", not_finite="rollback", steps_before=1)
    expected = losses_of(runs(1, "fp32", "nothing there", (BAD - 1, BAD)))
    assert losses_of(back, {BAD - 1, BAD}) == expected
    assert [entry["step"] for entry in records_of(back)[0]["left_out"]] == [BAD - 1, BAD]


def test_without_a_checkpoint_to_go_back_to_the_step_is_skipped(runs):
    back = runs(0, "fp32", "loss", (2,), not_finite="rollback")
    assert losses_of(back, {2}) == losses_of(runs(0, "fp32", "nothing there", (2,)))
    assert [record["kind"] for record in records_of(back)] == ["skip"]


@pytest.mark.parametrize(
    ("action", "stop"),
    [
        ("skip", 9),
        ("rollback", 9),
        pytest.param("skip", 6, marks=pytest.mark.extended),
        pytest.param("rollback", 6, marks=pytest.mark.extended),
    ],
)
def test_a_run_that_is_stopped_on_the_way_has_the_same_losses(runs, action, stop):
    """Before the bad step, and after it."""
    whole = runs(2, "fp32", "gradient", not_finite=action)
    stopped = runs(2, "fp32", "gradient", stop=stop, not_finite=action)
    assert losses_of(stopped) == losses_of(whole)
    strip = [{**record, "time": 0} for record in records_of(stopped)]
    assert strip == [{**record, "time": 0} for record in records_of(whole)]


@pytest.mark.parametrize("rule", [{"deviations": 20}, {"deviations": None, "gradient_ratio": 50}])
def test_a_spike_is_found_before_it_does_harm(runs, rule):
    spike = {"action": "skip", "window": 5, **rule}
    found = runs(1, "fp32", "spike", spike=spike)
    assert losses_of(found, {BAD}) == losses_of(runs(1, "fp32", "nothing there"))
    (record,) = records_of(found)
    assert "median of the last 5 steps" in record["reason"]


@pytest.mark.parametrize(("zero", "kind"), [(0, "loss"), (2, "gradient")])
def test_by_default_such_a_step_ends_the_run(runs, zero, kind):
    with pytest.raises(DivergedError, match=f"step {BAD} was not applied"):
        runs(zero, "fp32", kind)


def test_a_run_whose_steps_are_all_bad_ends(runs):
    with pytest.raises(DivergedError, match="after 3 steps that were skipped in a row"):
        runs(0, "fp32", "loss", range(2, 13), not_finite="skip", skips_in_a_row=3)


@pytest.fixture(scope="module")
def shared(small_corpus, launcher, tmp_path_factory):
    """On two ranks, with accumulation: something planted in the last part of the second rank."""
    folder = tmp_path_factory.mktemp("shared")

    def train(zero):
        jobs = []
        for kind in ("gradient", "nothing there"):
            output = folder / f"{zero}-{kind.split()[0]}"
            path = small_corpus.write_config(
                output.with_suffix(".json"),
                output,
                **{
                    "zero_optimization.stage": zero,
                    "train_micro_batch_size_per_gpu": 4,
                    "headrace.stages": [{"name": "one", "max_steps": STEPS}],
                    "headrace.checkpoint.every_steps": 3,
                    "headrace.anomalies": {"not_finite": "rollback"},
                },
            )
            plant = {"kind": kind, "steps": [BAD], "rank": 1}
            jobs.append({"config": str(path), "stop_after": None, "plant": plant})
        (folder / f"{zero}.json").write_text(json.dumps(jobs))
        finished = launcher.run(WORKERS / "planted_steps.py", str(folder / f"{zero}.json"))
        assert finished.returncode == 0, finished.stdout[-3000:]
        return folder / f"{zero}-gradient", folder / f"{zero}-nothing"

    return train


@pytest.mark.slow
@pytest.mark.parametrize(
    "zero", [2, *(pytest.param(zero, marks=pytest.mark.extended) for zero in (0, 1, 3))]
)
def test_all_ranks_leave_out_what_one_of_them_finds(shared, zero):
    planted, expected = shared(zero)
    assert losses_of(planted, {BAD}) == losses_of(expected)
    (record,) = records_of(planted)
    assert (record["kind"], record["step"], record["back_to"]) == ("rollback", BAD, 6)
    assert len(set(record["left_out"][0]["samples"])) == 16
