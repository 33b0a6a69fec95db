"""The CSV files of the Story Cloze Test (Mostafazadeh et al. 2016; the same columns in 2018).

Four sentences of a story and two endings, of which one is right.  The ROCStories, which have five
sentences and no wrong ending, and the test files without answers are refused.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from headrace.corpus.readers.findings import Findings
from headrace.corpus.readers.lines import numbered_lines
from headrace.corpus.readers.multiple_choice import check_choices, question_sample
from headrace.shards.sample import Sample

_ID = "InputStoryid"
_CONTEXT = tuple(f"InputSentence{number}" for number in range(1, 5))
_CHOICES = ("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2")
_ANSWER = "AnswerRightEnding"
_COLUMNS = (_ID, *_CONTEXT, *_CHOICES, _ANSWER)
_STORIES = "storyid"
"""First column of the ROCStories."""


def is_story_cloze(line: str) -> bool:
    """Whether this is the header of a Story Cloze file, or of the stories that go with it."""
    columns = [column.strip(' "') for column in line.split(",")]
    return _ID in columns or columns[0] == _STORIES


def read_story_cloze(
    url: str, format: str, language: str, subset: str | None, findings: Findings
) -> Iterator[Sample]:
    """Yield one sample a row; problems go to ``findings``, with the line that a row starts in."""
    columns: dict[str, int] | None = None
    for number, row in _rows(url, findings):
        if columns is None:
            columns = _columns(row, number, findings)
            if columns is None:
                return
            width = len(row)
            continue
        if len(row) != width:
            value = f"{len(row)}, not {width}"
            remedy = "Put texts with commas or quotes into quotes"
            findings.add(number, "wrong number of columns", value, remedy)
            continue
        cells = {name: row[position].strip() for name, position in columns.items()}
        question = _question(cells, number, findings)
        if question is None:
            continue
        members = {"id": cells[_ID], "language": language, **question}
        if subset is not None:
            members["subset"] = subset
        sample = question_sample(url, number, members, findings)
        if sample is not None:
            yield sample


def _rows(url: str, findings: Findings) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of their first line; a text in quotes may go over several lines."""
    lines = numbered_lines(url, findings, spreadsheet=True)
    reader = csv.reader((f"{line}\n" for _, line in lines), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            findings.add(number, f"not CSV: {error}", None, "Check the quotes of this row")
            continue
        if row:
            yield number, row


def _columns(header: list[str], number: int, findings: Findings) -> dict[str, int] | None:
    """Position of each column; None, and a finding, if this is another kind of file."""
    found = {name.strip(): position for position, name in enumerate(header)}
    missing = [name for name in _COLUMNS if name not in found]
    if not missing:
        return {name: found[name] for name in _COLUMNS}
    if missing == [_ANSWER]:
        what = f"no column {_ANSWER}: this is a test file without answers"
        remedy = "Take the validation file, or the test file with the answers"
        findings.add(number, what, None, remedy)
    elif _STORIES in found:
        what = "these are stories without a wrong ending, not questions"
        remedy = "Take the files of the Story Cloze Test, with two endings a story"
        findings.add(number, what, ", ".join(header)[:80], remedy)
    else:
        remedy = f"The first line names the columns: {','.join(_COLUMNS)}"
        findings.add(number, "columns are missing", ", ".join(missing), remedy)
    return None


def _question(cells: dict[str, str], number: int, findings: Findings) -> dict[str, Any] | None:
    before = findings.total
    for name, cell in cells.items():
        if name != _ANSWER and not cell:
            findings.add(number, f"{name} is empty", None, "Fill it in, or remove the row")
    answer = cells[_ANSWER]
    if answer not in ("1", "2"):
        findings.add(number, f"{_ANSWER} is neither 1 nor 2", repr(answer)[:80])
    if findings.total > before:
        return None
    endings = [cells[name] for name in _CHOICES]
    label = int(answer) - 1
    choices = check_choices(endings, label, number, findings)
    if choices is None:
        return None
    context = " ".join(cells[name] for name in _CONTEXT)
    return {"context": context, "choices": choices, "label": label}
