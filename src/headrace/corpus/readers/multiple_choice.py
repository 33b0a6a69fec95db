"""Multiple-choice questions as JSON lines: COPA, e-CARE, CODAH, JCommonsenseQA and a plain form.

A sample has in field ``json`` the ``context``, the ``choices`` in the order of the file and the
``label``, the position of the right one from 0; in field ``txt`` the context and the right choice
joined by a space: the story as it is told.

COPA (Gordon et al. 2012; Balanced COPA, Kavumba et al. 2019; XCOPA, Ponti et al. 2020) and e-CARE
(Du et al. 2022) ask for the cause or the effect of the premise.  A model has to be told which, so
the question ends the context, in the words of ``ASKED``; ``question`` keeps it as data.  The words
are English whatever the language of the source, so that they stay the same where a model is trained
in one language and tested in another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.corpus.readers.findings import Findings
from headrace.corpus.readers.jsonl import identifier_of, numbered_objects
from headrace.shards import storage
from headrace.shards.sample import Sample, make_sample

ASKED = {"cause": "What was the cause?", "effect": "What happened as a result?"}
"""What ends the context of a question for the cause or the effect."""


@dataclass(frozen=True)
class ChoiceLayout:
    """The members of a line that make a question."""

    context: str
    choices: tuple[str, ...]
    """One member for each choice, or a single one that is a list."""
    identifiers: tuple[str, ...]
    """Members that may hold the id; the first that is there does."""
    shape: str
    """How a line should look, for messages."""
    asked: str | None = None
    """Member that says ``cause`` or ``effect``."""

    @property
    def members(self) -> frozenset[str]:
        """What tells a line of this layout from others."""
        asked = () if self.asked is None else (self.asked,)
        return frozenset((self.context, *self.choices, *asked))


CHOICE_LAYOUTS = {
    "copa": ChoiceLayout(
        "premise",
        ("choice1", "choice2"),
        ("id", "idx"),
        '{"premise": "...", "question": "cause", "choice1": "...", "choice2": "...", "label": 0}',
        "question",
    ),
    "ecare": ChoiceLayout(
        "premise",
        ("hypothesis1", "hypothesis2"),
        ("index", "id"),
        '{"premise": "...", "ask-for": "cause", "hypothesis1": "...", "hypothesis2": "...", '
        '"label": 0}',
        "ask-for",
    ),
    "codah": ChoiceLayout(
        "prompt", ("endings",), ("id",), '{"prompt": "...", "endings": ["...", ...], "label": 0}'
    ),
    "jcommonsenseqa": ChoiceLayout(
        "question",
        tuple(f"choice{number}" for number in range(5)),
        ("q_id",),
        '{"question": "...", "choice0": "...", ..., "choice4": "...", "label": 0}',
    ),
    "multiple_choice": ChoiceLayout(
        "context", ("choices",), ("id",), '{"context": "...", "choices": ["...", ...], "label": 0}'
    ),
}


def layout_of(record: Mapping[str, Any]) -> str | None:
    """The layout whose members the object has, with a label or without; None if it has none's."""
    for name, layout in CHOICE_LAYOUTS.items():
        if layout.members <= record.keys():
            return name
    return None


def read_questions(
    url: str, format: str, language: str, subset: str | None, findings: Findings
) -> Iterator[Sample]:
    """Yield one sample a line; blank lines are passed over; problems go to ``findings``.

    Members that the layout does not name are kept in field ``json``.
    """
    layout = CHOICE_LAYOUTS[format]
    stem = storage.name_of(url).partition(".")[0]
    for number, record in numbered_objects(url, findings, layout.shape):
        held = [record.pop(name) for name in layout.identifiers if name in record]
        identifier = identifier_of(held[0] if held else None, stem, number, findings)
        question = _question(record, layout, number, findings)
        if identifier is None or question is None:
            continue
        members = {"id": identifier, "language": language, **question}
        if subset is not None:
            record["subset"] = subset
        members |= {name: value for name, value in record.items() if name not in members}
        sample = question_sample(url, number, members, findings)
        if sample is not None:
            yield sample


def question_sample(
    url: str, number: int, members: dict[str, Any], findings: Findings
) -> Sample | None:
    """The sample of a question whose members are in order; None if they are not Unicode text."""
    told = f"{members['context']} {members['choices'][members['label']]}"
    try:
        content = json.dumps(members, sort_keys=True).encode()
        key = findings.key_for(members["id"], number, content)
        return make_sample(key, told, members, f"{url}:{number}")
    except ValueError:
        findings.add(number, "not Unicode text: half of a surrogate pair, or NaN")
        return None


def check_choices(
    choices: Sequence[str], label: int, number: int, findings: Findings
) -> list[str] | None:
    """The choices; None, and a finding, if another choice says the same as the right one."""
    right = choices[label].strip()
    if [choice.strip() for choice in choices].count(right) > 1:
        what = "a wrong choice is the same as the right one"
        findings.add(number, what, None, "Correct the choices, or remove the line")
        return None
    return list(choices)


def _question(
    record: dict[str, Any], layout: ChoiceLayout, number: int, findings: Findings
) -> dict[str, Any] | None:
    """``context``, ``choices``, ``label`` and ``question``, taken out of the object."""
    before = findings.total

    def fault(what: str, value: str | None = None) -> None:
        findings.add(number, what, value, f"Write {layout.shape}")

    context = record.pop(layout.context, None)
    if not _has_words(context):
        fault(f"{layout.context} is not a string with words")
    if len(layout.choices) == 1:
        choices = record.pop(layout.choices[0], None)
        if not isinstance(choices, list) or len(choices) < 2 or not all(map(_has_words, choices)):
            fault(f"{layout.choices[0]} is not a list of two or more strings with words")
            choices = []
    else:
        choices = [record.pop(name, None) for name in layout.choices]
        for name, choice in zip(layout.choices, choices, strict=True):
            if not _has_words(choice):
                fault(f"{name} is not a string with words")
    label = _label(record.pop("label", None), len(choices), number, findings, layout.shape)
    question: dict[str, Any] = {}
    if layout.asked is not None:
        asked = record.pop(layout.asked, None)
        if asked not in ASKED:
            fault(f"{layout.asked} is neither cause nor effect", repr(asked)[:80])
        question["question"] = asked
    if findings.total > before or label is None:
        return None
    checked = check_choices(choices, label, number, findings)
    if checked is None:
        return None
    if question:
        context = f"{context} {ASKED[question['question']]}"
    return {"context": context, "choices": checked, "label": label, **question}


def _label(label: Any, choices: int, number: int, findings: Findings, shape: str) -> int | None:
    if label is None or label == -1:
        what = "the question has no label: files without answers cannot be trained or scored on"
        findings.add(number, what, None, "Take the file with the answers")
    elif isinstance(label, bool) or not isinstance(label, int):
        findings.add(number, "label is not a whole number", type(label).__name__, f"Write {shape}")
    elif choices and not 0 <= label < choices:
        remedy = f"Count from 0: 0 to {choices - 1}"
        findings.add(number, "label is no choice", str(label), remedy)
    else:
        return label
    return None


def _has_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
