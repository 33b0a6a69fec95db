"""``--dry-run``: the plan of a run, without a trace of it on disk."""

import pytest

from headrace.cli import main


@pytest.fixture
def plan(small_corpus, tmp_path, capsys):
    def show(*options, **changes):
        config = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **changes)
        code = main(["train", "--ds_config", str(config), "--dry-run", *options])
        assert not (tmp_path / "run").exists()
        return code, capsys.readouterr()

    return show


def test_the_plan_shows_batch_groups_stages_and_memory(plan):
    code, captured = plan("--ranks", "2", **{"zero_optimization.stage": 2})
    assert code == 0
    text = captured.out
    assert "16 = 2 ranks x 8 x 1 accumulation steps" in text
    assert "no_decay" in text
    # 150 + 90 + 60 sentences in batches of 16; shares with temperature 0.5
    (stage,) = [line for line in text.splitlines() if line.startswith("multilingual ")]
    assert stage.split()[1:5] == ["model", "300", "1", "19"]
    share = 150**0.5 / (150**0.5 + 90**0.5 + 60**0.5)
    assert f"en {share:.1%}" in stage
    assert "monolingual/zh" in text
    peaks = {line[:6]: line.split()[2:] for line in text.splitlines() if line.startswith("ZeRO ")}
    assert list(peaks) == [f"ZeRO {stage}" for stage in range(4)]
    assert peaks["ZeRO 2"][3:] == ["<-", "configured"]
    assert "micro-batches of 8 rows of 48 tokens" in text
    assert "<- configured" in text


@pytest.mark.parametrize(
    ("batching", "shown"),
    [
        ({"type": "tokens", "tokens_per_batch": 4096}, "4,096 tokens with padding"),
        ({"type": "packed"}, "packs of 48 tokens"),
        ({"type": "packed", "pack_length": 512}, "packs of 512 tokens"),
        ({}, "samples, sorted by length"),
    ],
)
def test_the_kind_of_batching_is_shown(plan, batching, shown):
    code, captured = plan("--ranks", "2", **{"headrace.batching": batching})
    assert code == 0
    assert shown in captured.out
    (stage,) = [line for line in captured.out.splitlines() if line.startswith("multilingual ")]
    by_length = "type" in batching
    assert stage.split()[4] == ("-" if by_length else "19")
    assert ("counted after encoding" in captured.out) == by_length


def test_labels_can_be_discovered_in_the_shards(plan):
    code, captured = plan("--ranks", "1", **{"headrace.task.labels": "discover"})
    assert code == 0
    assert "67 tags" in captured.out


def test_one_branch_needs_the_stage_before_it(plan):
    code, captured = plan("--stage", "monolingual", "--branch", "zh", "--ranks", "1")
    assert code == 2
    assert "--stage multilingual" in captured.err


def test_everything_that_is_wrong_is_listed(plan, tmp_path):
    code, captured = plan(
        "--ranks", "3", "--branch", "xx",
        **{"headrace.data.train.en": str(tmp_path / "nowhere")},
    )  # fmt: skip
    assert code == 2
    for part in ("train_batch_size", "--branch", "nowhere"):
        assert part in captured.err


def test_groups_of_each_stage_are_shown_where_they_differ(plan):
    groups = [
        {"name": "low", "select": {"layers": 0}, "lr": 1e-5},
        {"name": "words", "select": "embeddings", "freeze": True},
        {"name": "others", "select": "rest", "schedule": {"type": "constant"}},
    ]
    code, captured = plan(
        "--ranks", "1",
        **{"headrace.param_groups": {"groups": groups}, "headrace.stages.1.param_groups": {}},
    )  # fmt: skip
    assert code == 0
    table = captured.out.split("parameter groups of multilingual\n")[1].split("\n\n")[0]
    shown = [line.split() for line in table.splitlines()]
    assert ["low", "1e-05", "0.01", "cosine,"] in [[*line[:1], *line[3:6]] for line in shown]
    assert ["words", "frozen"] in [[line[0], line[3]] for line in shown]
    assert "groups of the optimizer: 4" in table
    assert "parameter groups of monolingual" in captured.out


def test_groups_that_do_not_fit_the_network_are_refused_with_all_else(plan):
    code, captured = plan(
        "--ranks", "1",
        **{
            "headrace.param_groups": {"distribution": [1e-5] * 10, "split": "paper-text"},
            "headrace.stages.1.param_groups": {
                "groups": [
                    {"name": "deep", "select": {"layers": 5}},
                    {"name": "lost", "select": {"regex": "decoder"}},
                ],
                "unmatched": "base",
            },
        },
    )  # fmt: skip
    assert code == 2
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in lines] == [
        "headrace.param_groups.distribution",
        "headrace.stages.1.param_groups.groups.0.select.layers",
        "headrace.stages.1.param_groups.groups.1.select.regex",
    ]
