"""Exported models: Hugging Face folders with safetensors weights, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from headrace.shards import storage
from headrace.tasks.task import Task

FACTS_FILE = "headrace.json"
"""What Headrace knows about an exported model."""


def write_export(
    folder: Path,
    model: PreTrainedModel,
    state: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerFast,
    facts: dict[str, Any],
    task: Task,
) -> None:
    """Write a model so that ``transformers`` loads it, in place of an older one.

    Args:
        folder: final place; another folder beside it is used until all is written.
        model: gives the class and its config.
        state: weights in fp32, as :func:`headrace.training.engine.full_precision_state` gives them.
        tokenizer: is saved with the model.
        facts: JSON-able; step, scores and what the task has to know.
        task: gives the titles of the scores.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(str(partial), state_dict=state, safe_serialization=True)
    settings = json.loads((partial / "config.json").read_text(encoding="utf-8"))
    settings["dtype"] = "float32"
    (partial / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    tokenizer.save_pretrained(str(partial))
    (partial / FACTS_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (partial / "README.md").write_text(_card(facts, task), encoding="utf-8")
    for path in (*partial.rglob("*"), partial):
        storage.sync(path)
    replaced = folder.with_name(f".replaced-{folder.name}")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    partial.rename(folder)
    storage.sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def finish_interrupted_export(folder: Path) -> None:
    """Bring back the older export if a crash fell between the two renames of a replacement."""
    replaced = folder.with_name(f".replaced-{folder.name}")
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    shutil.rmtree(folder.with_name(f".partial-{folder.name}"), ignore_errors=True)


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what was written beside an exported model; empty for a model of another origin."""
    path = folder / FACTS_FILE
    if not path.exists():
        return {}
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts


def _card(facts: dict[str, Any], task: Task) -> str:
    languages = "".join(f"- {language}\n" for language in facts["languages"])
    lines = [["language", *(_in_a_sentence(title) for title in task.scores.values())]]
    lines.append(["---"] * len(lines[0]))
    for language, scores in facts["metrics"].items():
        lines.append([language, *(_score(task, name, scores.get(name)) for name in task.scores)])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    about, what = task.described
    title, origin, fingerprints = _origin(facts)
    return (
        f"---\nlanguage:\n{languages}library_name: transformers\n"
        f"pipeline_tag: {task.pipeline_tag}\n---\n\n"
        f"# {title}\n\n"
        f"{origin} {about.capitalize()}: {what}.\n\n"
        f"Scores on the validation shards, {_unit(task)}:\n\n"
        f"{table if facts['metrics'] else 'No validation data was given.' + chr(10)}"
        f"{fingerprints}"
    )


def _origin(facts: dict[str, Any]) -> tuple[str, str, str]:
    """Title of a model, where it comes from, and the fingerprints of that."""
    if (mixed := facts.get("interpolation")) is not None:
        first, second = map(_name, mixed["models"])
        share = mixed["alpha"]
        origin = f"Each weight is {1 - share:g} of that of {first} + {share:g} of that of {second}."
        return f"Between {first} and {second}", origin, ""
    return (
        _name(facts),
        f"Trained with Headrace, exported after step {facts['step']}.",
        f"\nConfig fingerprint: `{facts['config_fingerprint']}`. "
        f"Data fingerprint: `{facts['data_fingerprint']}`.\n",
    )


def _name(facts: dict[str, Any]) -> str:
    return (
        f"{facts['run']}: {facts['stage']} / {facts['branch']}"
        if "run" in facts
        else str(facts["folder"])
    )


def _in_a_sentence(title: str) -> str:
    return title[0].lower() + title[1:]


def _unit(task: Task) -> str:
    others = [
        _in_a_sentence(title) for name, title in task.scores.items() if name in task.number_scores
    ]
    return f"in per cent but for {' and '.join(others)}" if others else "in per cent"


def _score(task: Task, name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if name in task.number_scores else f"{100 * value:.2f}"
