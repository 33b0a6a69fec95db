"""The label set of a network that tags words, told from the names of its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.errors import LabelError, Problem
from headrace.tasks.labels import LabelSet, built_in_label_sets, load_label_set
from headrace.tasks.spans import OUTSIDE


def label_set_of_model(
    id2label: Mapping[int, str], facts: Mapping[str, Any], where: str
) -> tuple[LabelSet, list[int]]:
    """Return the label set of a model, and which of its outputs belongs to each tag in order.

    The coarse families are those that Headrace wrote beside the model, else those of the built-in
    label set with the same types, else each type is its own family.

    Raises:
        LabelError: naming every label that is not an IOB2 tag, and every tag without its partner.
    """
    names = [id2label[number] for number in sorted(id2label)]
    remedy = "Give a model whose id2label holds O and, for each type, B-type and I-type"
    problems = []
    types: dict[str, None] = {}
    for name in names:
        prefix, _, type_ = name.partition("-")
        if prefix in ("B", "I") and type_:
            types[type_] = None
        elif name != OUTSIDE:
            problems.append(Problem("a label that is not an IOB2 tag", where, name, remedy))
    if not problems:
        wanted = [OUTSIDE, *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]
        problems = [
            Problem("the model has no label for a tag", where, tag, remedy)
            for tag in wanted
            if tag not in names
        ]
        if len(set(names)) != len(names):
            problems.append(Problem("the model has a label twice", where, remedy=remedy))
    if problems:
        raise LabelError(problems)
    families = facts.get("families")
    title = str(facts.get("label_set", "of the model"))
    if families is None:
        families, title = _built_in_families(set(types), title)
    label_set = LabelSet(
        title, tuple(types), {type_: families.get(type_, type_) for type_ in types}
    )
    return label_set, [names.index(tag) for tag in label_set.tags]


def _built_in_families(types: set[str], title: str) -> tuple[Mapping[str, str], str]:
    for name in built_in_label_sets():
        known = load_label_set(name)
        if set(known.types) == types:
            return known.coarse, name
    return {}, title
