"""``headrace evaluate``: score an exported model, or the models of a run, on shards."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.commands.options import urls_by_language
from headrace.errors import EXIT_DONE, ConfigError, Problem, UserError

if TYPE_CHECKING:
    from headrace.report.tables import Table
    from headrace.training.inference import TrainedModel

HELP = "score an exported model, or the models of a run, on shards"
EXAMPLE = "headrace evaluate runs/multiconer_xlmr_large --data hi=data/hi/test bn=data/bn/test"

_NOTES = {
    "token_classification": "Entities that truncation took words from count as not found.",
    "multiple_choice": "Chance is what guessing would give.",
    "sequence_classification": "Losses of scores are squared errors.",
}
_LOST = {
    "token_classification": ("Entities lost", ("entities_lost", "entities_cut")),
    "multiple_choice": ("Samples cut", ("samples_truncated",)),
    "sequence_classification": ("Samples cut", ("samples_truncated",)),
}
"""Task -> title, and the counts of encoding that it sums up."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "model",
        metavar="MODEL_OR_RUN",
        help="folder in Hugging Face format, name on the hub, or run folder",
    )
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="LANG=URL", help="sources to score on"
    )
    parser.add_argument(
        "--stage", metavar="NAME", help="stage of the run folder (default: the last)"
    )
    parser.add_argument(
        "--branch",
        metavar="NAME",
        help="branch of the stage, for every language (default: each language has its own)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="samples at once (default: 32)"
    )
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens of a sequence at most (default: as the model was trained)",
    )
    parser.add_argument(
        "--head",
        metavar="NAME",
        help="head of a sequence classifier that answers for all sources (default: each source has "
        "the head that it was trained with)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all scores to FILE, or - for stdout")
    parser.add_argument(
        "--cache",
        default=".headrace/encoded",
        metavar="DIR",
        help="local folder for encoded data (default: .headrace/encoded)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Score every language with the model that serves it."""
    urls, cache = _checked(arguments)

    from headrace.shards import storage
    from headrace.training.inference import load_model
    from headrace.training.logs import quiet_libraries
    from headrace.training.models_of_run import is_run_folder, models_of_run

    quiet_libraries()
    served: dict[str, list[str]] = {arguments.model: list(urls)}
    if is_run_folder(Path(arguments.model)):
        models = models_of_run(
            Path(arguments.model), list(urls), stage=arguments.stage, branch=arguments.branch
        )
        served = {str(folder): languages for folder, languages in models.items()}
    elif arguments.stage or arguments.branch:
        raise ConfigError(
            Problem(
                "--stage and --branch choose a model of a run, and this is not a run folder",
                arguments.model,
                remedy="Leave them out, or give the run folder",
            )
        )
    found: dict[str, dict[str, Any]] = {}
    label_sets: dict[str, None] = {}
    tasks: dict[str, None] = {}
    for name, languages in served.items():
        model = load_model(name, max_length=arguments.max_length, head=arguments.head)
        tasks[model.task.name] = None
        if label_set := model.task.facts().get("label_set"):
            label_sets[label_set] = None
        found |= _score(
            model, {language: urls[language] for language in languages}, cache, arguments
        )
    found = {language: found[language] for language in urls}
    document = {
        "model": arguments.model,
        "task": ", ".join(tasks),
        "label_set": ", ".join(label_sets) or None,
        "data": urls,
        "languages": found,
    }
    if arguments.json == "-":
        json.dump(document, sys.stdout, ensure_ascii=False, indent=1)
        print()
        return EXIT_DONE
    (task,) = tasks  # the branches of a run are all for one
    print(table(found, task).text(), end="")
    print(f"Scores are per cent. {_NOTES[task]}")
    if arguments.json is not None:
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        storage.write_atomically(arguments.json, text.encode())
    return EXIT_DONE


def _score(
    model: TrainedModel, urls: dict[str, str], cache: Path, arguments: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Everything that is reported about some languages, by language."""
    from headrace.training.inference import encode_for_model, score

    sources = encode_for_model(model, urls, cache)
    title = f"evaluating {', '.join(urls)}"
    result = score(model, sources, batch_size=arguments.batch_size, title=title)
    return {
        language: {
            "model": model.name,
            "loss": result.loss_by_language[language],
            "metrics": result.metrics[language],
            "encoding": sources[language].report.as_dict(),
        }
        for language in urls
    }


def _checked(arguments: argparse.Namespace) -> tuple[dict[str, str], Path]:
    """``["en=URL", ...]`` as language -> URL, and the cache folder; all options are checked."""
    from headrace.shards import storage

    problems: list[Problem] = []
    urls = urls_by_language(arguments.data, "--data", problems)
    if arguments.batch_size < 1:
        value = str(arguments.batch_size)
        problems.append(Problem("out of range", "--batch-size", value, "Give 1 or more"))
    if arguments.json not in {None, "-"}:
        problems += storage.output_file_problems(arguments.json, "--json")
    cache = Path()
    try:
        cache = storage.local_folder(arguments.cache, "--cache")
    except UserError as error:
        problems += error.problems
    if problems:
        raise UserError(problems)
    return urls, cache


def table(found: dict[str, dict[str, Any]], task: str) -> Table:
    """One row a language; columns of subsets, and of what is asked, where there are any."""
    from headrace.report import numbers
    from headrace.report.summary import mean
    from headrace.report.tables import Table
    from headrace.report.terms import terms_of

    terms = terms_of(task, {name for entry in found.values() for name in entry["metrics"]})
    parts = [
        (kind, name)
        for kind in ("subsets", "questions")
        for name in sorted(
            {name for entry in found.values() for name in entry["metrics"].get(kind, ())}
        )
    ]
    titles = {**terms.scores, **terms.references}
    rows = []
    for language, entry in found.items():
        metrics = entry["metrics"]
        main_of_parts = (terms.main_of(metrics.get(kind, {}).get(name, {})) for kind, name in parts)
        rows.append(
            (
                language,
                numbers.count(metrics[terms.samples.lower()]),
                *(numbers.percent(metrics.get(name)) for name in titles),
                *(numbers.percent(value) for value in main_of_parts),
                numbers.loss(entry["loss"]),
                numbers.count(sum(entry["encoding"][name] for name in _LOST[task][1])),
            )
        )
    if len(found) > 1:
        values = [[entry["metrics"].get(name) for entry in found.values()] for name in titles]
        rows.append(
            (
                "Mean",
                "",
                *(numbers.percent(mean(column)) for column in values),
                *("" for _ in parts),
                "",
                "",
            )
        )
    short = " or ".join(terms.scores[name].split()[0] for name in terms.mains)
    columns = (
        *("Language", terms.samples, *titles.values()),
        *(f"{short}, {name}" for _, name in parts),
        *("Loss", _LOST[task][0]),
    )
    return Table("Scores by language", columns, tuple(rows), totals=int(len(found) > 1))
