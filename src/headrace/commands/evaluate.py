"""``headrace evaluate``: score an exported model, or the models of a run, on shards."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.commands.model_options import add_model_options, check_model_options, served_models
from headrace.errors import EXIT_DONE, ConfigError, Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.report.tables import Table
    from headrace.training.evaluation import Measured

HELP = "score an exported model, the models of a run, or a vote of models, on shards"
EXAMPLE = "headrace evaluate runs/multiconer_xlmr_large --data hi=data/hi/test bn=data/bn/test"

_NOTES = {
    "token_classification": "Entities that truncation took words from count as not found.",
    "multiple_choice": "Chance is what guessing would give.",
    "sequence_classification": "Losses of scores are squared errors.",
    "masked_lm": "Masks are always the same ones.",
    "causal_lm": "The end of each text is predicted too.",
}
_LOST = {
    "token_classification": ("Entities lost", ("entities_lost", "entities_cut")),
    "multiple_choice": ("Samples cut", ("samples_truncated",)),
    "sequence_classification": ("Samples cut", ("samples_truncated",)),
    "masked_lm": ("Unknown tokens", ("unknown_tokens",)),
    "causal_lm": ("Unknown tokens", ("unknown_tokens",)),
}
"""Task -> title, and the counts of encoding that it sums up."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "model",
        nargs="+",
        metavar="MODEL_OR_RUN",
        help="folder in Hugging Face format, name on the hub, or run folder; several vote",
    )
    add_model_options(parser, purpose="score on")
    parser.add_argument(
        "--vote",
        choices=("majority", "probabilities"),
        help="how several models decide: by the number of votes, or by the mean of their "
        "probabilities (default: probabilities)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all scores to FILE, or - for stdout")
    parser.add_argument(
        "--errors",
        metavar="DIR",
        help="of models that tag words: write kinds of errors and confused types to errors.json "
        "and errors.html",
    )
    parser.add_argument(
        "--train",
        nargs="+",
        default=[],
        metavar="LANG=URL",
        help="with --errors: training sources, to tell entities that they have from new ones",
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=0,
        metavar="N",
        help="with --errors: show texts of N errors of each kind (default: 0, no text is shown)",
    )
    parser.add_argument(
        "--calibration",
        metavar="DIR",
        help="write how far probabilities can be believed to reliability.json and reliability.html",
    )


def run(arguments: argparse.Namespace) -> int:
    """Score every language with the model that serves it, or the vote of several."""
    urls, known, cache = _checked(arguments)

    from headrace.report.terms import terms_of
    from headrace.shards import storage
    from headrace.training.evaluation import check_models, measure_models, vote_of
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    several = len(arguments.model) > 1
    keep = several or bool(arguments.errors or arguments.calibration)
    served = [served_models(name, list(urls), arguments) for name in arguments.model]
    if keep:
        check_models(served, head=arguments.head, errors=arguments.errors is not None)
    members = [
        measure_models(
            name,
            models,
            urls,
            cache=cache,
            batch_size=arguments.batch_size,
            max_length=arguments.max_length,
            head=arguments.head,
            keep=keep,
        )
        for name, models in zip(arguments.model, served, strict=True)
    ]
    vote = arguments.vote or "probabilities"
    measured = vote_of(members, vote) if several else members[0]
    found = {language: measured.entries[language] for language in urls}
    document = {
        "model": arguments.model if several else arguments.model[0],
        **({"vote": vote} if several else {}),
        "task": ", ".join(measured.kinds),
        "label_set": ", ".join(measured.label_sets) or None,
        "data": urls,
        "languages": found,
    }
    pages = [*_errors(measured, urls, known, arguments), *_reliability(measured, urls, arguments)]
    if arguments.json == "-":
        json.dump(document, sys.stdout, ensure_ascii=False, indent=1)
        print()
        return EXIT_DONE
    (task,) = measured.kinds  # the branches of a run are all for one
    described = next(iter(measured.tasks.values())).describe_scores()
    print(table(found, task, described).text(), end="")
    in_percent = terms_of(task, _scores_in(found), described).in_percent
    print(f"{in_percent}. {_NOTES.get(task, '')}".rstrip())
    if several:
        print(_members_table(arguments.model, found, task, vote).text(), end="")
    for page in pages:
        print(f"page: {page}")
    if arguments.json is not None:
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        storage.write_atomically(arguments.json, text.encode())
    return EXIT_DONE


def _errors(
    measured: Measured,
    urls: dict[str, str],
    known: dict[str, str],
    arguments: argparse.Namespace,
) -> list[Path]:
    """Write the analysis of errors where it is asked for, and return its page."""
    if arguments.errors is None:
        return []
    from headrace.report.errors_page import render_errors
    from headrace.tasks.token_classification import TokenClassification
    from headrace.training.error_analysis import analyse_errors, known_entities

    tasks = {
        language: task
        for language, task in measured.tasks.items()
        if isinstance(task, TokenClassification)
    }
    document = {
        "model": arguments.model,
        "data": urls,
        "train": known,
        **analyse_errors(
            tasks,
            urls,
            {language: measured.tags(language) for language in urls},
            known={language: known_entities([url]) for language, url in known.items()},
            examples=arguments.examples,
        ),
    }
    page = render_errors(measured.name, document)
    return [_write(Path(arguments.errors), "errors", document, page)]


def _reliability(
    measured: Measured, urls: dict[str, str], arguments: argparse.Namespace
) -> list[Path]:
    """Write how far probabilities can be believed where it is asked for, and return its page."""
    if arguments.calibration is None:
        return []
    from headrace.report.reliability_page import render_reliability
    from headrace.training.evaluation import reliability_of

    found = reliability_of(measured)
    if not found:
        what = "there are no probabilities: all heads give scores"
        raise ConfigError(Problem(what, "--calibration", remedy="Leave it out"))
    document = {"model": arguments.model, "data": urls, "languages": found}
    page = render_reliability(measured.name, document)
    return [_write(Path(arguments.calibration), "reliability", document, page)]


def _write(folder: Path, name: str, document: dict[str, Any], page: str) -> Path:
    from headrace.shards import storage

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    storage.write_atomically(str(folder / f"{name}.json"), text.encode())
    storage.write_atomically(str(folder / f"{name}.html"), page.encode("utf-8", errors="replace"))
    return folder / f"{name}.html"


def _checked(arguments: argparse.Namespace) -> tuple[dict[str, str], dict[str, str], Path]:
    """Sources and training sources by language, and the cache folder; all options are checked."""
    from headrace.commands.options import urls_by_language
    from headrace.report.page import require_page_tools
    from headrace.shards import storage

    problems: list[Problem] = []
    urls, cache = check_model_options(arguments, problems)
    known = urls_by_language(arguments.train, "--train", problems)
    problems += [
        Problem("there is no --data of this language", "--train", language)
        for language in known
        if language not in urls
    ]
    if arguments.json not in {None, "-"}:
        problems += storage.output_file_problems(arguments.json, "--json")
    for option in ("errors", "calibration"):
        folder = getattr(arguments, option)
        if folder is not None:
            try:
                storage.local_folder(folder, f"--{option}")
            except UserError as error:
                problems += error.problems
    for option, value in (("--train", arguments.train), ("--examples", arguments.examples)):
        if value and arguments.errors is None:
            remedy = "Give --errors as well, or leave it out"
            problems.append(Problem("it would have no effect", option, remedy=remedy))
    if arguments.examples < 0:
        value = str(arguments.examples)
        problems.append(Problem("out of range", "--examples", value, "Give 0 or more"))
    several = len(arguments.model) > 1
    if arguments.vote is not None and not several:
        problems.append(
            Problem("a vote needs several models", "--vote", arguments.vote, "Name two or more")
        )
    if several and arguments.vote == "majority" and arguments.calibration is not None:
        remedy = "Use --vote probabilities"
        problems.append(Problem("a majority has no probabilities", "--calibration", remedy=remedy))
    if problems:
        raise UserError(problems)
    if arguments.errors is not None or arguments.calibration is not None:
        require_page_tools()
    return urls, known, cache


def _members_table(
    names: Sequence[str], found: dict[str, dict[str, Any]], task: str, vote: str
) -> Table:
    """One row a language: the main score of each model, and of their vote."""
    from headrace.report import numbers
    from headrace.report.summary import mean
    from headrace.report.tables import Table
    from headrace.report.terms import terms_of

    terms = terms_of(task, {name for entry in found.values() for name in entry["metrics"]})
    rows = [
        [terms.main_of(one["metrics"]) for one in (*entry["members"], entry)]
        for entry in found.values()
    ]
    lines = [
        (language, *map(numbers.percent, row)) for language, row in zip(found, rows, strict=True)
    ]
    if len(rows) > 1:
        means = (mean(column) for column in zip(*rows, strict=True))
        lines.append(("Mean", *map(numbers.percent, means)))
    columns = ("Language", *names, f"Vote ({vote})")
    title = f"{terms.main_title} of each model"
    return Table(title, columns, tuple(lines), totals=int(len(rows) > 1))


def _scores_in(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for entry in found.values() for name in entry["metrics"]}


def table(
    found: dict[str, dict[str, Any]],
    task: str,
    described: dict[str, dict[str, Any]] | None = None,
) -> Table:
    """One row a language; columns of subsets, and of what is asked, where there are any.

    ``described`` are the scores of a task that is not built in.
    """
    from headrace.report import numbers
    from headrace.report.summary import mean
    from headrace.report.tables import Table, score_cell
    from headrace.report.terms import terms_of

    terms = terms_of(task, _scores_in(found), described)
    lost, lost_counts = _LOST.get(task, ("", ()))
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
                numbers.count(metrics.get(terms.samples.lower())),
                *(score_cell(terms, name, metrics.get(name)) for name in titles),
                *(score_cell(terms, terms.main, value) for value in main_of_parts),
                numbers.loss(entry["loss"]),
                *([numbers.count(sum(entry["encoding"][n] for n in lost_counts))] if lost else []),
            )
        )
    if len(found) > 1:
        values = [[entry["metrics"].get(name) for entry in found.values()] for name in titles]
        rows.append(
            (
                "Mean",
                "",
                *(
                    score_cell(terms, name, mean(column))
                    for name, column in zip(titles, values, strict=True)
                ),
                *("" for _ in parts),
                "",
                *([""] if lost else []),
            )
        )
    short = " or ".join(terms.scores[name].split()[0] for name in terms.mains)
    columns = (
        *("Language", terms.samples, *titles.values()),
        *(f"{short}, {name}" for _, name in parts),
        *("Loss", *([lost] if lost else [])),
    )
    return Table("Scores by language", columns, tuple(rows), totals=int(len(found) > 1))
