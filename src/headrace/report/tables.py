"""The result tables of a run, as Markdown and as plain text for the console.

Scores are in percent, losses in nats per what is labelled: a word, or a whole sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.counts import counted
from headrace.report import numbers
from headrace.report.records import Branch, Scores
from headrace.report.run_folder import RunFolder
from headrace.report.summary import (
    compare_runs,
    language_results,
    mean,
    run_labels,
    spread,
)
from headrace.report.table import Table as Table
from headrace.report.table import markdown_cell
from headrace.report.terms import Terms
from headrace.report.throughput_tables import steps_table, throughput_table

NO_SCORES = Scores(values={})


def score_titles(run: RunFolder) -> dict[str, str]:
    """Scores that the run has, with column titles: those of its task, else whatever there is."""
    there = {
        name
        for branch in run.branches
        for scores in branch.scores.values()
        for name in scores.values
    }
    known = {name: title for name, title in run.terms.scores.items() if name in there}
    return known or {name: name.replace("_", " ").capitalize() for name in sorted(there)}


def column_titles(run: RunFolder) -> dict[str, str]:
    """The scores of the run and what they are compared with, where it has that, with titles."""
    titles = score_titles(run)
    has_all = all(name in titles for name in run.terms.scores)
    return {**titles, **(run.terms.references if has_all else {})}


def headline_table(run: RunFolder) -> Table:
    """One row a language: the final scores, and the main one after each stage."""
    results = language_results(run)
    titles = column_titles(run)
    mains = run.terms.mains
    staged = list(dict.fromkeys(stage for result in results for stage in result.by_stage))
    several = len(staged) > 1
    stage_columns = [f"{run.terms.main_title}, {stage}" for stage in staged] if several else []
    score_names = [name for name in titles if not (several and name in mains)]
    columns = ["Language", *stage_columns]
    if several:
        columns.append("Gain")
    columns += [titles[name] for name in score_names]
    columns += ["Validation loss", "Best step"]

    rows = []
    for result in results:
        row = [result.language]
        if several:
            row += [score_cell(run.terms, mains[0], result.by_stage.get(s)) for s in staged]
            row.append(_difference(run.terms, mains[0], result.gain))
        row += [score_cell(run.terms, name, result.scores.values.get(name)) for name in score_names]
        row += [numbers.loss(result.loss), numbers.count(result.branch.best_step)]
        rows.append(tuple(row))
    totals = 0
    if len(results) > 1:
        totals = 1
        row = ["Mean"]
        if several:
            row += [
                _mean_cell(run.terms, mains[0], [result.by_stage.get(stage) for result in results])
                for stage in staged
            ]
            gains = [result.gain for result in results]
            row.append(_with_count(_difference(run.terms, mains[0], mean(gains)), gains))
        row += [
            _mean_cell(run.terms, name, [result.scores.values.get(name) for result in results])
            for name in score_names
        ]
        row += [numbers.loss(mean(result.loss for result in results)), ""]
        rows.append(tuple(row))
    return Table("Result by language", tuple(columns), tuple(rows), totals=totals)


def score_cell(terms: Terms, name: str, value: float | None) -> str:
    """A score of the task in percent, or as it is where it is no fraction (a perplexity, say)."""
    return numbers.score(value, is_number=_is_number(terms, name))


def _difference(terms: Terms, name: str, value: float | None) -> str:
    return numbers.difference(value, is_number=_is_number(terms, name))


def _is_number(terms: Terms, name: str) -> bool:
    """Whether a score is no fraction; nothing is known of one that the task does not name."""
    return name in terms.numbers or name not in {**terms.scores, **terms.references}


def _mean_cell(terms: Terms, name: str, values: Sequence[float | None]) -> str:
    """The mean of ``values``, with the number of languages where some have none."""
    return _with_count(score_cell(terms, name, mean(values)), values)


def _with_count(text: str, values: Sequence[float | None]) -> str:
    there = sum(value is not None for value in values)
    return text if there in (0, len(values)) else f"{text} ({there} of {len(values)})"


def branches_table(run: RunFolder) -> Table:
    """One row a stage, branch and language: scores, validation loss, best step."""
    titles = column_titles(run)
    columns = ("Stage", "Branch", "Language", *titles.values(), "Validation loss", "Best step")
    rows = [row for branch in run.branches for row in _branch_rows(run.terms, branch, list(titles))]
    return Table("All stages and branches", columns, tuple(rows), names=3)


def _branch_rows(terms: Terms, branch: Branch, score_names: Sequence[str]) -> list[tuple[str, ...]]:
    step = numbers.count(branch.best_step)
    ordered = dict.fromkeys([*branch.languages, *branch.scores])
    rows = [
        (
            branch.stage,
            branch.name,
            language,
            *(
                score_cell(terms, name, branch.scores[language].values.get(name))
                for name in score_names
            ),
            numbers.loss(
                branch.loss_by_language.get(
                    language, branch.validation_loss if len(branch.scores) == 1 else None
                )
            ),
            step,
        )
        for language in ordered
        if language in branch.scores
    ]
    if len(rows) != 1 and (rows or branch.validation_loss is not None):
        means = [
            score_cell(
                terms, name, mean(scores.values.get(name) for scores in branch.scores.values())
            )
            for name in score_names
        ]
        loss = numbers.loss(branch.validation_loss)
        rows.append((branch.stage, branch.name, "all (mean)", *means, loss, step))
    return rows


def part_tables(run: RunFolder) -> dict[str, Table]:
    """Scores on parts of the validation data: by subset (clean, noisy), and by what is asked.

    Kind of part -> table; only of the kinds that the run has.
    """
    results = language_results(run)
    kinds = {
        "subsets": {result.language: result.scores.subsets for result in results},
        "questions": {result.language: result.scores.questions for result in results},
    }
    found = {kind: _part_table(run, kind, by_language) for kind, by_language in kinds.items()}
    return {kind: table for kind, table in found.items() if table is not None}


def _part_table(
    run: RunFolder, kind: str, by_language: Mapping[str, Mapping[str, Scores]]
) -> Table | None:
    """Scores of the parts of one kind, or None without parts.

    With two parts there is the difference of the main score, second part minus first.
    """
    parts = sorted({part for scores in by_language.values() for part in scores})
    if not parts:
        return None
    of_languages = {name: scores for name, scores in by_language.items() if scores}
    columns = ["Language", *(f"{run.terms.samples}, {part}" for part in parts)]
    rows = [[language] for language in of_languages] + [["Mean"]]
    for row, scores in zip(rows, of_languages.values(), strict=False):
        row += [numbers.count(scores[part].samples if part in scores else None) for part in parts]
    rows[-1] += [""] * len(parts)
    for score, title in column_titles(run).items():
        columns += [f"{title}, {part}" for part in parts]
        values = [
            [scores.get(part, NO_SCORES).values.get(score) for part in parts]
            for scores in of_languages.values()
        ]
        values.append([mean(column) for column in zip(*values, strict=True)])
        for row, of_row in zip(rows, values, strict=True):
            row += [score_cell(run.terms, score, value) for value in of_row]
        if len(parts) == 2 and score in run.terms.mains:
            columns.append("Difference")
            for row, (first, second) in zip(rows, values, strict=True):
                difference = None if first is None or second is None else second - first
                row.append(_difference(run.terms, score, difference))
    if len(of_languages) == 1:
        rows.pop()
    title = f"{' and '.join(parts).capitalize()} {kind}"
    totals = int(len(of_languages) > 1)
    return Table(title, tuple(columns), tuple(map(tuple, rows)), totals=totals)


def comparison_table(runs: Sequence[RunFolder], score: str | None = None) -> Table:
    """One score of several runs by stage, branch and language, with mean and deviation.

    The default is the main score of the first run.
    """
    terms = runs[0].terms
    score = score or terms.main
    labels = run_labels(runs)
    compared = compare_runs(runs, [score])
    rows = [
        (
            *(line.stage, line.branch, line.language),
            *(score_cell(terms, score, value) for value in line.values),
            numbers.plus_minus(line.spread, is_number=_is_number(terms, score)),
            str(line.spread.runs if line.spread else 0),
        )
        for line in compared
    ]
    finals = [
        {result.language: result.scores.values.get(score) for result in language_results(run)}
        for run in runs
    ]
    # A mean over languages compares runs only where every run has every language.
    shared = [key for key in finals[0] if all(final.get(key) is not None for final in finals)]
    totals = 0
    if shared:
        totals = 1
        means = [mean(final[language] for language in shared) for final in finals]
        over_runs = spread([value for value in means if value is not None])
        rows.append(
            (
                "final",
                "",
                f"mean of {len(shared)}",
                *(score_cell(terms, score, value) for value in means),
                numbers.plus_minus(over_runs, is_number=_is_number(terms, score)),
                str(len(runs)),
            )
        )
    title = terms.scores.get(score, score)
    columns = ("Stage", "Branch", "Language", *labels, "Mean ± standard deviation", "Runs")
    return Table(
        f"{title} of {counted(len(runs), 'run')}", columns, tuple(rows), names=3, totals=totals
    )


def results_markdown(run: RunFolder, others: Sequence[RunFolder] = ()) -> str:
    """The text of ``results.md``: the tables above, with a note on what is missing."""
    parts = [f"# Results of {markdown_cell(run.name)}\n"]
    facts = [
        f"{label}: {markdown_cell(value)}"
        for label, value in (("Written", run.created), ("Label set", run.label_set))
        if value
    ]
    if facts:
        parts.append(". ".join(facts) + ".\n")
    parts += [f"{note}\n" for note in notes(run)]
    tables: list[Table] = []
    if language_results(run):
        tables += [headline_table(run), *part_tables(run).values()]
    if any(branch.scores or branch.validation_loss is not None for branch in run.branches):
        tables.append(branches_table(run))
    if others:
        runs = [run, *others]
        scores = [name for name in run.terms.scores if name in score_titles(run)]
        tables += [comparison_table(runs, score) for score in scores or [run.terms.main]]
    if run.branches:
        tables += [throughput_table(run), *steps_table(run)]
    parts += [f"## {markdown_cell(table.title)}\n\n{table.markdown()}" for table in tables]
    parts.append(f"{run.terms.in_percent}; losses are in nats per {run.terms.loss_unit}.\n")
    return "\n".join(parts)


def notes(run: RunFolder) -> list[str]:
    """Sentences on what a reader must know before trusting the figures."""
    found = []
    unfinished = [branch for branch in run.branches if branch.status != "finished"]
    if not run.branches:
        found.append("No stage has started yet.")
    elif unfinished:
        done = len(run.branches) - len(unfinished)
        branches = counted(len(run.branches), "branch", "branches")
        have = "has" if 1 in (done, len(run.branches)) else "have"
        found.append(
            f"The run is not finished: {done} of {branches} {have} a result. "
            "Scores of the others are those of their best validation so far."
        )
    if run.branches and not language_results(run):
        found.append("There are no validation scores yet.")
    lost = sum(point.loss is None for branch in run.branches for point in branch.training)
    if lost:
        found.append(f"{lost:,} training records have a loss that is not a finite number.")
    if run.unreadable_lines:
        lines = ", ".join(map(str, run.unreadable_lines[:10]))
        more = ", ..." if len(run.unreadable_lines) > 10 else ""
        found.append(f"Lines of metrics.jsonl that could not be read: {lines}{more}.")
    return found
