"""Language tags as sources carry them."""

from __future__ import annotations

import re

from headrace.errors import Problem

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


def language_problems(language: str, where: str) -> list[Problem]:
    """One problem if the text does not have the form of a BCP-47 tag, else none."""
    if _LANGUAGE.fullmatch(language):
        return []
    remedy = "Give a BCP-47 tag such as en, hi or pt-BR"
    return [Problem("not a language tag", where, repr(language)[:80], remedy)]
