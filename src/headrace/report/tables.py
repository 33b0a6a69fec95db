"""The result tables of a run, as Markdown and as plain text for the console.

Scores are in percent, losses in nats per what is labelled: a word, or a whole sample.
"""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from headrace.report.terms import Terms

NO_SCORES = Scores(values={})


@dataclass(frozen=True)
class Table:
    """A table of text cells: columns of names are flush left, columns of numbers flush right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    """How many leading columns hold names."""
    totals: int = 0
    """How many rows at the end sum up the others."""

    def markdown(self) -> str:
        """A GitHub-flavoured Markdown table, without the title."""
        rules = [":---"] * self.names + ["---:"] * (len(self.columns) - self.names)
        lines = [self.columns, rules, *self.rows]
        cells = [[_markdown_cell(cell) for cell in line] for line in lines]
        return "".join(f"| {' | '.join(line)} |\n" for line in cells)

    def text(self) -> str:
        """The table with its title in aligned columns; wide (CJK) characters count twice."""
        lines = [tuple(map(_one_line, line)) for line in (self.columns, *self.rows)]
        widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        written = []
        for line in lines:
            cells = []
            for number, (cell, width) in enumerate(zip(line, widths, strict=True)):
                space = " " * (width - _width(cell))
                cells.append(cell + space if number < self.names else space + cell)
            written.append("  ".join(cells).rstrip())
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        written.insert(1, rule)
        if self.totals:
            written.insert(len(written) - self.totals, rule)
        return "\n".join([self.title, *written]) + "\n"


def _one_line(cell: str) -> str:
    """``cell`` without control characters: a name from a file must not steer the terminal."""
    return "".join(
        " " if unicodedata.category(letter) in {"Cc", "Cs"} else letter for letter in cell
    )


def _markdown_cell(cell: str) -> str:
    """``cell`` with everything escaped that Markdown, or the HTML inside it, would act on."""
    escaped = "".join("\\" + letter if letter in r"\`*_[]|~$!" else letter for letter in cell)
    return _one_line(escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    marks = sum(unicodedata.category(letter) in ("Mn", "Me", "Cf") for letter in text)
    return len(text) + wide - marks


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


def throughput_table(run: RunFolder) -> Table:
    """Speed of every branch; where the run has no figure yet, the median of the log so far."""
    rows = []
    for branch in run.branches:
        figures = [
            branch.result.throughput.get(name) if branch.result else None
            for name in ("tokens_per_s", "samples_per_s", "padding_share")
        ]
        logged = (
            [point.tokens_per_s for point in branch.training],
            [point.samples_per_s for point in branch.training],
            [point.padding_share for point in branch.training],
        )
        tokens, samples, padding = (
            _median(values) if figure is None else figure
            for figure, values in zip(figures, logged, strict=True)
        )
        rows.append(
            (
                branch.stage,
                branch.name,
                numbers.amount(tokens),
                numbers.amount(samples),
                numbers.share(padding),
                numbers.count(branch.steps_done),
                numbers.duration(elapsed(branch)),
                numbers.count(branch.restarts),
            )
        )
    columns = (
        *("Stage", "Branch", "Tokens/s", "Samples/s", "Padding", "Steps"),
        *("Elapsed", "Restarts"),
    )
    return Table("Throughput", columns, tuple(rows), names=2)


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def elapsed(branch: Branch) -> float | None:
    """Seconds between the first and the last record of a branch, pauses included."""
    times = [point.time for point in branch.training]
    times += [validation.time for validation in branch.validations]
    known = [time for time in times if time is not None]
    return max(known) - min(known) if len(known) > 1 else None


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
    parts = [f"# Results of {_markdown_cell(run.name)}\n"]
    facts = [
        f"{label}: {_markdown_cell(value)}"
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
        tables.append(throughput_table(run))
    parts += [f"## {_markdown_cell(table.title)}\n\n{table.markdown()}" for table in tables]
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
