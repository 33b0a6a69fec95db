"""Which exported model of a run serves which language."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from headrace.config import load_run_config
from headrace.config.messages import did_you_mean
from headrace.errors import ConfigError, Problem
from headrace.training.stages import ONLY_BRANCH, choose_branches, expand_stages


def is_run_folder(path: Path) -> bool:
    """Whether a folder is that of a run: its ``config.json`` has a section ``headrace``."""
    try:
        content = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "headrace" in content


def models_of_run(
    run: Path, languages: Sequence[str], *, stage: str | None = None, branch: str | None = None
) -> dict[Path, list[str]]:
    """Return the exported models that serve the languages: folder -> languages.

    Args:
        run: run folder; it may have moved since it was trained.
        languages: languages to serve.
        stage: default: the last stage.
        branch: serves every language. Default: each language has its own branch in a stage with
            ``for_each``, and the only branch serves all in other stages.

    Raises:
        ConfigError: for an unknown stage or branch, a language without a branch, or a branch that
            is not trained yet.
    """
    # the run folder is given as JSON text so that a name such as "2024" stays a text
    config = load_run_config(run / "config.json", [f"headrace.output={json.dumps(str(run))}"])
    stage = stage or config.headrace.stages[-1].name
    chosen = {item.name: item for item in choose_branches(expand_stages(config), stage, branch)}
    served: dict[Path, list[str]] = {}
    problems = []
    for language in languages:
        item = chosen.get(branch or (language if ONLY_BRANCH not in chosen else ONLY_BRANCH))
        if item is None:
            problems.append(
                Problem(
                    f"stage {stage} has no branch for this language",
                    "--data",
                    language,
                    f"{did_you_mean(language, chosen)}, or name one with --branch",
                )
            )
        elif not item.result_file.exists() or not item.export_folder.is_dir():
            problems.append(
                Problem(
                    "this branch is not trained to the end yet",
                    str(item.folder),
                    item.title,
                    "Start the run again, or choose another --stage",
                )
            )
        else:
            served.setdefault(item.export_folder, []).append(language)
    if problems:
        raise ConfigError(problems)
    return served
