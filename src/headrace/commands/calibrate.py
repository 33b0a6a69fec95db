"""``headrace calibrate``: fit the probabilities of exported models to what they get right."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from headrace.commands.model_options import add_model_options, check_model_options, served_models
from headrace.errors import EXIT_DONE, ConfigError, Problem, UserError

HELP = "fit the probabilities of exported models to what they get right"
EXAMPLE = "headrace calibrate runs/multiconer_xlmr_large --data hi=data/hi/dev bn=data/bn/dev"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "model", metavar="MODEL_OR_RUN", help="folder in Hugging Face format, or run folder"
    )
    add_model_options(parser, purpose="fit to: validation data, not what the model was trained on")
    parser.add_argument("--json", metavar="FILE", help="write what was fitted, or - for stdout")


def run(arguments: argparse.Namespace) -> int:
    """Fit one temperature to each model, and write it beside the weights."""
    from headrace.shards import storage

    problems: list[Problem] = []
    urls, cache = check_model_options(arguments, problems)
    if arguments.json not in {None, "-"}:
        problems += storage.output_file_problems(arguments.json, "--json")
    if problems:
        raise UserError(problems)

    from headrace.tasks.class_scores import has_classes
    from headrace.training.inference import described_task
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    served = served_models(arguments.model, list(urls), arguments)
    for name in served:
        if not (Path(name).expanduser() / "config.json").is_file():
            remedy = "Give a folder: calibration.json is written into it"
            raise ConfigError(Problem("there is no model folder here", name, remedy=remedy))
        if not has_classes(task := described_task(name, head=arguments.head)):
            what = "a model for this task is not calibrated"
            raise ConfigError(Problem(what, name, task.name))
    found: dict[str, dict[str, Any]] = {}
    for name, languages in served.items():
        found[name] = _calibrate(name, {one: urls[one] for one in languages}, cache, arguments)
    text = json.dumps({"data": urls, "models": found}, ensure_ascii=False, indent=1)
    if arguments.json == "-":
        print(text)
        return EXIT_DONE
    print(_table(found), end="")
    for name, document in found.items():
        if document["at_bound"]:
            print(
                f"warning: {name}: the temperature is at its bound, as where every answer is "
                "right: more data, or data with errors in it, is needed",
                file=sys.stderr,
            )
    if arguments.json is not None:
        storage.write_atomically(arguments.json, (text + "\n").encode())
    return EXIT_DONE


def _calibrate(
    name: str, urls: dict[str, str], cache: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Fit and write the calibration of one model, and say how far it goes by language."""
    from headrace.training.calibration import (
        fit_calibration,
        group_of,
        read_temperatures,
        reliability,
        write_calibration,
    )
    from headrace.training.collecting import Collector
    from headrace.training.inference import encode_for_model, load_model, score

    model = load_model(name, max_length=arguments.max_length, head=arguments.head)
    collector = Collector(model.task)
    sources = encode_for_model(model, urls, cache)
    title = f"calibrating {', '.join(urls)}"
    score(model, sources, batch_size=arguments.batch_size, title=title, observe=collector)
    answers = collector.by_language
    document = fit_calibration(model.task, answers)
    if document is None:
        what = "there is nothing to fit probabilities to: scores have none"
        raise ConfigError(Problem(what, name, ", ".join(urls)))
    folder = Path(name).expanduser()
    write_calibration(folder, {**document, "data": urls})
    temperatures = read_temperatures(folder)
    assert temperatures is not None
    languages = {}
    for language in urls:
        group = group_of(model.task, language)
        if group is not None:
            before, after = (
                reliability(model.task, answers[language], temperature)
                for temperature in (1.0, temperatures.of(group))
            )
            languages[language] = {
                "temperature": temperatures.of(group),
                "before": before,
                "after": after,
            }
    return {**document, "languages": languages}


def _table(found: dict[str, dict[str, Any]]) -> str:
    from headrace.report import numbers
    from headrace.report.tables import Table

    rows = []
    for document in found.values():
        for language, entry in document["languages"].items():
            before, after = entry["before"]["items"], entry["after"]["items"]
            rows.append(
                (
                    language,
                    numbers.count(before["items"]),
                    f"{entry['temperature']:.3f}",
                    *(
                        numbers.percent(one.get("expected_calibration_error"))
                        for one in (before, after)
                    ),
                    *(numbers.loss(one.get("negative_log_likelihood")) for one in (before, after)),
                )
            )
    columns = ("Language", "Items", "Temperature", "ECE before", "ECE", "Loss before", "Loss")
    return Table("Calibration", columns, tuple(rows)).text()
