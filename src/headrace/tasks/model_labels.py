"""The labels of a network, told from the names of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.errors import LabelError, Problem
from headrace.tasks.heads import ONLY, Head, Heads
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


def heads_of_model(
    id2label: Mapping[int, str], problem_type: str | None, facts: Mapping[str, Any], where: str
) -> Heads:
    """Return the heads of a network that labels texts.

    They are those that Headrace wrote beside the model; a model of another origin has one, which
    gives a score if it has a single output.

    Raises:
        LabelError: if what is beside the model does not fit it, or a text may have several labels.
    """
    names = [id2label[number] for number in sorted(id2label)]
    if "heads" in facts:
        return _written_heads(facts["heads"], names, where)
    if problem_type == "multi_label_classification":
        what, remedy = "the model gives a text several labels", "Give a model with one label a text"
        raise LabelError(Problem(what, where, remedy=remedy))
    if len(set(names)) != len(names):
        remedy = "Give each output of id2label a name of its own"
        raise LabelError(Problem("the model has a label twice", where, remedy=remedy))
    is_score = len(names) == 1 or problem_type == "regression"
    return Heads([Head(ONLY, None, None if is_score else tuple(names))])


def _written_heads(facts: Sequence[Mapping[str, Any]], names: list[str], where: str) -> Heads:
    heads = Heads.from_facts(facts)
    if heads.names_of_outputs != names:
        raise LabelError(
            Problem(
                "headrace.json and config.json do not belong together: their labels differ",
                where,
                f"{len(heads.names_of_outputs)} outputs, and {len(names)}",
                "Copy the folder again, with all of its files",
            )
        )
    return heads
