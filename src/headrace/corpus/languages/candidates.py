"""The languages that a recipe lets a detector answer with."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.corpus.languages.tags import canonical, primary
from headrace.errors import CorpusError, Problem


def chosen(known: Sequence[str], candidates: tuple[str, ...] | None, library: str) -> Sequence[str]:
    """Those of the languages of a detector that may be its answers.

    Args:
        known: canonical tags of what it knows.
        candidates: tags, of which the language alone counts; None: all that it knows.
        library: its name, for errors.

    Raises:
        CorpusError: for candidates that it does not know, or fewer than two.
    """
    if candidates is None:
        return known
    wanted = {primary(canonical(tag) or tag) for tag in candidates}
    found = [tag for tag in known if primary(tag) in wanted]
    unknown = sorted(wanted - {primary(tag) for tag in found})
    problems = [
        Problem(f"{library} does not know the language", "candidates", tag, "Leave it out")
        for tag in unknown
    ]
    if not problems and len(found) < 2:
        remedy = "Name at least two, or none for all languages"
        problems = [Problem("nothing to tell apart", "candidates", ", ".join(candidates), remedy)]
    if problems:
        raise CorpusError(problems)
    return found
