"""``headrace plan --memory``: tables, recommendations, options and their errors."""

from __future__ import annotations

import json

import pytest

from headrace.cli import main
from headrace.planning.devices import GPUS
from headrace.planning.speed import ASSUMED_UTILISATION, read_calibration

LARGE = {
    "train_batch_size": 256,
    "headrace.precision": "auto",
    "headrace.task.max_length": 256,
    "headrace.model.config": {
        "model_type": "xlm-roberta", "hidden_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 300,
        "vocab_size": 250_000,
    },
}  # fmt: skip


@pytest.fixture
def plan(small_corpus, tmp_path, capsys):
    def run(*options: str, **changes) -> tuple[int, str, str, dict]:
        config = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **changes)
        words = ["--stage", "multilingual", "--json", str(tmp_path / "plan.json"), *options]
        code = main(["plan", str(config), *words])
        assert not (tmp_path / "run").exists()
        captured = capsys.readouterr()
        path = tmp_path / "plan.json"
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return code, captured.out, captured.err, document.get("memory", {})

    return run


def metrics(path, **changes) -> str:
    """The metrics of a run on one GPU: five steps, the last of which are alike."""
    step = {
        "kind": "train", "tokens_per_s": 40_000.0, "samples_per_s": 2_000.0, "mfu": 0.41,
        "flops_per_token": 1e9, **changes,
    }  # fmt: skip
    start = {"kind": "start", "world_size": 2, "precision": "bf16"}
    lines = [start, {**step, "mfu": 0.001}, {**step, "mfu": 0.001}, step, step, step]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_the_table_says_what_fits_and_what_to_take(plan, tmp_path):
    run = metrics(tmp_path / "metrics.jsonl")
    code, out, _, memory = plan(
        *("--memory", "--micro-batch", "1", "--micro-batch", "16", "--nodes", "1", "--nodes", "4"),
        *("--calibrate", run, "--price-per-gpu-hour", "2.5"),
        **LARGE,
    )
    assert code == 0
    cases = memory["cases"]
    # two numbers of nodes, two precisions, ZeRO 0 to 3 and offloading, two micro-batches
    assert len(cases) == 2 * 2 * 5 * 2
    usable = {gpu.name: gpu.usable for gpu in GPUS}
    for case in cases:
        assert case["bytes"] == sum(part["bytes"] for part in case["parts"])
        assert case["bytes"] == max(case["moments"].values())
        assert case["micro_batch"] * case["accumulation"] * case["ranks"] == 256
        for gpu, fits in case["fits"].items():
            refused = case["zero_stage"] == 0 and case["precision"] != "fp32" and "V100" in gpu
            assert fits == (case["bytes"] <= usable[gpu] and not refused)
    advice = {(each["nodes"], each["gpu"]): each for each in memory["recommended"]}
    assert len(advice) == 2 * 6
    v100, h200 = advice[1, "V100-16"], advice[1, "H200-141"]
    assert (v100["setup"]["precision"], v100["setup"]["zero_stage"]) == ("fp16", 1)
    assert "fp16 needs a ZeRO stage" in v100["reason"]
    assert (h200["setup"]["precision"], h200["setup"]["zero_stage"]) == ("bf16", 0)
    for each in advice.values():
        speed = each["speed"]
        assert each["utilisation"] == 0.41
        assert each["price"] == pytest.approx(2.5 * speed["gpu_hours"])
        assert speed["gpu_hours"] == pytest.approx(speed["hours"] * each["setup"]["ranks"])
        # operations / (ranks x peak x utilisation), and the sending
        flops = memory["samples"] * memory["flops_per_sample"]
        rate = each["setup"]["ranks"] * each["setup"]["peak_flops"] * 0.41
        computing = speed["hours"] * 3600 * (1 - speed["sending_share"])
        assert computing == pytest.approx(flops / rate)
    assert memory["tokens_per_sample"] == 20  # of the run, not the longest row
    assert "41.0%, the median of 2 logged steps" in out
    assert "as configured: fp16, ZeRO 0" in out
    assert "GiB = 2 x N" in out
    assert "16 bits    3 + CPU" in out


def test_options_choose_gpus_and_lengths(plan):
    code, out, _, memory = plan(
        *("--memory", "--gpu", "A100-40", "--gpus-per-node", "2", "--length", "32"),
        *("--length", "48", "--micro-batch", "4"),
    )
    assert code == 0
    assert {case["length"] for case in memory["cases"]} == {32, 48}
    assert {case["ranks"] for case in memory["cases"]} == {2}
    assert [each["gpu"] for each in memory["recommended"]] == ["A100-40", "A100-40"]
    assert memory["recommended"][0]["utilisation"] == ASSUMED_UTILISATION["fp32"]
    assert "--calibrate RUN" in out
    assert "V100" not in out
    again = {"headrace.model.gradient_checkpointing": True}
    code, out, _, checkpointed = plan("--memory", "--gpu", "A100-40", "--micro-batch", "4", **again)
    assert code == 0
    assert all(case["gradient_checkpointing"] for case in checkpointed["cases"])
    assert "with gradient checkpointing" in out


def test_batches_of_tokens_are_planned_in_rows_of_the_longest(plan):
    batching = {"type": "tokens", "tokens_per_batch": 1024}
    words = ("--memory", "--gpus-per-node", "2", "--gpu", "A100-40")
    code, _, _, memory = plan(*words, **{"headrace.batching": batching})
    assert code == 0
    # 21 rows of 48 tokens fit, 20 of them on two ranks
    rows = {case["micro_batch"] * case["accumulation"] * 2 for case in memory["cases"]}
    assert rows == {20}


def test_a_network_that_is_too_large_is_checkpointed_or_not_planned(plan):
    config = {**LARGE["headrace.model.config"], "vocab_size": 20_000}
    changes = {**LARGE, "headrace.model.config": config, "train_batch_size": 512}
    words = ("--memory", "--gpu", "V100-16", "--gpus-per-node", "1", "--micro-batch", "512")
    code, out, _, memory = plan(*words, **changes)
    assert code == 0
    (advice,) = memory["recommended"]
    assert advice["setup"]["gradient_checkpointing"]
    assert "nothing fits without gradient checkpointing" in advice["reason"]
    config["hidden_size"], config["intermediate_size"] = 8192, 32768
    _, out, _, memory = plan(*words, **changes)
    (advice,) = memory["recommended"]
    assert advice["setup"] is None
    assert "nothing fits" in out


def test_mistakes_are_listed_together(plan, tmp_path):
    code, _, err, _ = plan("--nodes", "2")
    assert code == 2
    assert "--nodes: it would have no effect" in err
    code, _, err, _ = plan("--memory", "--gpu", "A100-400", "--micro-batch", "0", "--length", "-3")
    assert code == 2
    assert "Did you mean 'A100-40'?" in err
    assert "--micro-batch: a positive number is needed" in err
    assert "--length: a positive number is needed" in err
    code, _, err, _ = plan("--memory", "--gpus-per-node", "3")
    assert code == 2
    assert "it does not come out even for 3 ranks" in err
    code, _, err, _ = plan("--memory", "--length", "4000")
    assert code == 2
    assert "--length: the model has positions for" in err
    code, _, err, _ = plan("--memory", "--calibrate", str(tmp_path / "nowhere"))
    assert code == 2
    assert "--calibrate: the metrics of the run cannot be read" in err


def test_metrics_of_a_cpu_give_no_utilisation(tmp_path):
    found = read_calibration(metrics(tmp_path / "metrics.jsonl", mfu=None))
    assert found.utilisation is None
    assert found.tokens_per_second == 20_000
    assert found.flops_per_second == pytest.approx(2e13)
    assert found.tokens_per_sample == 20
