"""A synthetic run folder in the exact formats, with figures of a realistic size."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.tasks.labels import load_label_set

LANGUAGES = {
    "bn": 9708, "de": 9785, "en": 16778, "es": 16453, "fa": 16321, "fr": 16548,
    "hi": 9632, "it": 16579, "pt": 16469, "sv": 16363, "uk": 16429, "zh": 9759,
}  # fmt: skip
STARTED = 1_760_000_000.0

RunMaker = Callable[..., Path]


def scores(draw: random.Random, level: float, *, subsets: bool) -> dict[str, Any]:
    label_set = load_label_set("multiconer_v2")

    def one(mean: float, gold: int) -> dict[str, float]:
        f1 = min(max(draw.gauss(mean, 0.12), 0.02), 0.98)
        correct = round(f1 * gold)
        return {
            **{"precision": f1 + 0.01, "recall": f1 - 0.01, "f1": f1},
            **{"gold": gold, "predicted": gold + 3, "correct": correct},
        }

    by_type = {name: one(level, draw.randint(9, 140)) for name in label_set.types}
    coarse = {name: one(level + 0.1, 400) for name in label_set.coarse_types}
    found: dict[str, Any] = {
        "fine_macro_f1": sum(item["f1"] for item in by_type.values()) / len(by_type),
        "coarse_macro_f1": sum(item["f1"] for item in coarse.values()) / len(coarse),
        "micro_f1": level + 0.06,
        "precision": level + 0.05,
        "recall": level + 0.07,
        "by_type": by_type,
        "by_coarse_type": coarse,
        "sentences": draw.randint(507, 871),
        "words": draw.randint(6772, 13462),
    }
    if subsets:
        found["subsets"] = {
            "clean": {**scores(draw, level + 0.04, subsets=False), "sentences": 380},
            "noisy": {**scores(draw, level - 0.08, subsets=False), "sentences": 127},
        }
    return found


def branch_events(
    stage: str, branch: str, languages: list[str], *, epochs: int, start: float, seed: int
) -> list[dict[str, Any]]:
    draw = random.Random(f"{stage}/{branch}/{seed}")
    sizes = {language: LANGUAGES[language] ** 0.5 for language in languages}
    samples = sum(LANGUAGES[language] for language in languages)
    per_epoch = math.ceil(samples / 64)
    steps = per_epoch * epochs
    place = {"stage": stage, "branch": branch}
    events: list[dict[str, Any]] = [
        {
            "kind": "start", **place, "step": 0, "steps": steps, "epochs": epochs,
            "languages": languages,
            "mixture": {name: size / sum(sizes.values()) for name, size in sizes.items()},
            "samples_per_epoch": samples, "batch_size": 64, "world_size": 4, "zero_stage": 2,
            "precision": "bf16", "parameters": 559_959_000,
        }
    ]  # fmt: skip
    high = 2.1 if stage == "multilingual" else 0.35
    for step in range(10, steps + 1, max(10, steps // 240)):
        done = step / steps
        rate = 1e-6 * min(done / 0.1, 0.5 * (1 + math.cos(math.pi * max(0, (done - 0.1) / 0.9))))
        events.append(
            {
                "kind": "train", **place, "step": step, "epoch": step / per_epoch,
                "loss": max(0.02, 0.11 + high * math.exp(-7 * done) + draw.gauss(0, 0.025)),
                "learning_rate": rate, "gradient_norm": draw.uniform(0.5, 2),
                "tokens_per_s": draw.gauss(21_400, 700), "samples_per_s": draw.gauss(790, 25),
                "padding_share": draw.uniform(0.02, 0.05), "loss_scale": None,
                "time": start + step / 12,
            }
        )  # fmt: skip
    best = math.inf
    for epoch in range(1, epochs + 1):
        done = epoch / epochs
        loss = 0.24 + 0.8 * high * math.exp(-6 * done) + 0.05 * done**2 + draw.gauss(0, 0.004)
        better, best = loss < best, min(loss, best)
        events.append(
            {
                "kind": "validation", **place, "step": epoch * per_epoch, "epoch": float(epoch),
                "loss": loss,
                "loss_by_language": {name: loss + draw.gauss(0, 0.03) for name in languages},
                "metrics": {
                    name: {
                        "fine_macro_f1": 0.62 * (1 - math.exp(-4 * done)),
                        "coarse_macro_f1": 0.74 * (1 - math.exp(-4 * done)),
                        "micro_f1": 0.70 * (1 - math.exp(-4 * done)),
                    }
                    for name in languages
                },
                "best": better, "time": start + epoch * per_epoch / 12,
            }
        )  # fmt: skip
    return sorted(events, key=lambda event: event["step"])


def write_run(
    folder: Path,
    *,
    languages: list[str] | None = None,
    seed: int = 17,
    name: str = "multiconer-xlmr-large",
    finished: bool = True,
    subsets: bool = True,
) -> Path:
    """Write a run of two stages, one branch a language in the second."""
    languages = languages or list(LANGUAGES)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "train_batch_size": 64,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-6, "weight_decay": 0.01}},
        "zero_optimization": {"stage": 2},
        "headrace": {
            "seed": seed,
            "task": {"type": "token_classification", "labels": "multiconer_v2"},
            "model": {"pretrained": "xlm-roberta-large"},
            "data": {
                split: {language: f"s3://corpora/ner/{language}/{split}" for language in languages}
                for split in ("train", "validation")
            },
            "stages": [
                {
                    "name": "multilingual", "languages": "all", "for_each": None,
                    "start_from": None, "epochs": 10, "mixture": {"temperature": 0.5},
                    "keep_best": "validation_loss",
                },
                {
                    "name": "monolingual", "languages": "all", "for_each": "language",
                    "start_from": "multilingual", "epochs": 20,
                    "mixture": {"temperature": 1.0}, "keep_best": "validation_loss",
                },
            ],
        },
    }  # fmt: skip
    events = branch_events("multilingual", "all", languages, epochs=10, start=STARTED, seed=seed)
    branches = [("multilingual", "all", languages)]
    trained = languages if finished else languages[:2]
    for number, language in enumerate(trained):
        events += branch_events(
            "monolingual", language, [language], epochs=20, seed=seed,
            start=STARTED + 4000 + 900 * number,
        )  # fmt: skip
        branches.append(("monolingual", language, [language]))
    results = []
    for stage, branch, members in branches:
        of_branch = [
            event for event in events if (event["stage"], event["branch"]) == (stage, branch)
        ]
        best = [event for event in of_branch if event.get("best")][-1]
        draw = random.Random(f"scores {stage}/{branch}/{seed}")
        levels = {language: 0.56 + 0.22 * random.Random(language).random() for language in members}
        gain = 0.035 if stage == "monolingual" else 0.0
        results.append(
            {
                "stage": stage, "branch": branch, "languages": members,
                "steps": of_branch[0]["steps"], "best_step": best["step"],
                "validation_loss": best["loss"],
                "metrics": {
                    language: scores(draw, level + gain + draw.gauss(0, 0.006), subsets=subsets)
                    for language, level in levels.items()
                },
                "throughput": {
                    "tokens_per_s": 21_412.7, "samples_per_s": 791.3, "padding_share": 0.034,
                },
            }
        )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    if finished:
        summary = {
            "run": name,
            "created": "2026-02-11T09:14:27+00:00",
            "environment": {
                "headrace": "0.1.0", "python": "3.11.2", "torch": "2.8.0", "deepspeed": "0.19.8",
                "device": "4 x NVIDIA H100 80GB HBM3", "platform": "Linux-6.1.0-x86_64",
            },
            "label_set": "multiconer_v2",
            "stages": results,
        }  # fmt: skip
        (folder / "results.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    def make(folder: str = "run", **options: Any) -> Path:
        return write_run(tmp_path / folder, **options)

    return make


@pytest.fixture
def make_choice_run(make_run: RunMaker) -> RunMaker:
    """As ``make_run``, of a run for multiple choice: accuracy beside chance, two questions."""

    def make(*names: str, **options: Any) -> Path:
        folder = make_run(*names, **options)

        def choice_scores(scores: dict[str, Any]) -> dict[str, Any]:
            own = {"accuracy": scores["micro_f1"], "samples": 500, "chance": 0.4}
            parts = {name: {**own, "samples": 250} for name in ("cause", "effect")}
            return {**own, "subsets": {}, "questions": parts}

        results = json.loads((folder / "results.json").read_text())
        results |= {"task": "multiple_choice", "label_set": None}
        for entry in results["stages"]:
            entry["metrics"] = {
                language: choice_scores(scores) for language, scores in entry["metrics"].items()
            }
        (folder / "results.json").write_text(json.dumps(results))
        events = []
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            event = json.loads(line)
            if event["kind"] == "validation":
                event["metrics"] = {
                    language: {"accuracy": scores["micro_f1"]}
                    for language, scores in event["metrics"].items()
                }
            events.append(json.dumps(event) + "\n")
        (folder / "metrics.jsonl").write_text("".join(events))
        config = json.loads((folder / "config.json").read_text())
        config["headrace"]["task"] = {"type": "multiple_choice"}
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make
