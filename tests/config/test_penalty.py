"""The penalty of a stage in a run config: what is refused, and where the error points."""

import json

import pytest

from headrace.config import load_run_config
from headrace.errors import ConfigError

EWC = {"type": "ewc", "weight": 1000}
L2_SP = {"type": "l2_sp", "weight": 0.01}
MASKED_LM = {**EWC, "of": "masked_lm", "text": ["shards/text"]}
PRETRAINED = {"headrace.model": {"pretrained": "some/model"}}


@pytest.fixture
def load(small_corpus, tmp_path):
    def load(penalty, *, first=False, **changes):
        stages = [{"name": "first"}, {"name": "second", "start_from": "first"}]
        stages[0 if first else 1]["penalty"] = penalty
        path = small_corpus.write_config(
            tmp_path / "run.json", tmp_path / "run", **{"headrace.stages": stages, **changes}
        )
        return load_run_config(path)

    return load


def problems_of(load, *arguments, **changes):
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **changes)
    return {problem.where: problem.what for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("penalty", "first", "changes"),
    [
        (EWC, False, {}),
        ({**EWC, "samples": 16, "decay": 0.5}, False, {}),
        (L2_SP, False, {}),
        (L2_SP, True, PRETRAINED),
        ({**L2_SP, "anchor": "pretrained"}, False, PRETRAINED),
        ({**MASKED_LM, "fit_head": 500, "masked_share": 0.3}, True, PRETRAINED),
        (MASKED_LM, False, PRETRAINED),
        (EWC, False, {"bf16.enabled": True, "zero_optimization.stage": 1}),
        (EWC, False, {"fp16.enabled": True, "zero_optimization.stage": 1}),
    ],
)
def test_a_penalty_is_part_of_the_resolved_config(load, tmp_path, penalty, first, changes):
    config = load(penalty, first=first, **changes)
    stage = config.headrace.stages[0 if first else 1]
    assert {key: getattr(stage.penalty, key) for key in penalty} == penalty
    resolved = tmp_path / "resolved.json"
    resolved.write_text(json.dumps(config.resolved()))
    assert load_run_config(resolved).headrace.stages == config.headrace.stages


@pytest.mark.parametrize(
    ("penalty", "first", "where", "what"),
    [
        (L2_SP, True, "", "starts from new weights"),
        (EWC, True, "of", "no stage before this one"),
        ({**L2_SP, "anchor": "pretrained"}, False, "anchor", "no pretrained model"),
        ({**L2_SP, "weight": 0}, False, "weight", "greater than 0"),
        ({**L2_SP, "samples": 3}, False, "samples", "unknown key"),
        ({"weight": 3}, False, "type", "required key is missing"),
        ({"type": "ewcc", "weight": 3}, False, "type", "unknown type"),
        ({**EWC, "samples": 0}, False, "samples", "greater than or equal to 1"),
        ({**EWC, "of": "stage"}, False, "of", "stages"),
        ({**EWC, "text": ["a"]}, False, "text", 'only with "of": "masked_lm"'),
        ({**EWC, "fit_head": 3}, False, "fit_head", 'only with "of": "masked_lm"'),
        ({**MASKED_LM, "decay": 0.5}, False, "decay", 'only with "of": "stages"'),
        ({**EWC, "of": "masked_lm"}, False, "text", "are missing"),
        ({**MASKED_LM, "cache_dir": "s3://a"}, True, "cache_dir", "a local folder is needed"),
        (MASKED_LM, False, "of", "needs a pretrained model|there is none"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(load, penalty, first, where, what):
    changes = PRETRAINED if "cache_dir" in penalty else {}
    found = problems_of(load, penalty, first=first, **changes)
    path = f"headrace.stages.{0 if first else 1}.penalty"
    path += f".{where}" if where else ""
    assert path in found, found
    assert any(part in found[path] for part in what.split("|")), found


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}},
            "zero_optimization.offload_optimizer",
            "before a penalty is added",
        ),
        (
            {"bf16.enabled": True, "zero_optimization.stage": 1,
             "data_types.grad_accum_dtype": "fp32"},
            "data_types.grad_accum_dtype",
            "weights of its own",
        ),
        (
            {"torch_autocast": {"enabled": True, "dtype": "float16"}},
            "torch_autocast.dtype",
            "a penalty would not be",
        ),
        (
            {"headrace.model.lora": {"rank": 2}},
            "headrace.model.lora",
            "adapters leave nothing to hold",
        ),
    ],
)  # fmt: skip
def test_settings_that_leave_no_room_are_refused(
    load, small_corpus, tmp_path, changes, where, what
):
    assert what in problems_of(load, EWC, **changes)[where]
    path = small_corpus.write_config(tmp_path / "free.json", tmp_path / "free", **changes)
    load_run_config(path)  # without a penalty they are nobody's concern
