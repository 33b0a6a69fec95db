"""Telling the language of a text: from parts all over it, in agreement with its script, or not at
all.

Each part is given to the detector on its own: long and mixed texts bring the detectors to wrong
answers with full confidence.  A language that is not written in the script of the part is no
answer.  The language of the text is the one with the highest mean probability over the letters of
the parts, and that mean is its score.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.corpus.languages.detectors import Detector, detector
from headrace.corpus.languages.sampling import Part, parts_of
from headrace.corpus.languages.scripts import main_script
from headrace.corpus.languages.settings import LanguageSettings
from headrace.corpus.languages.tags import (
    NO_LANGUAGE,
    UNDETERMINED,
    agree,
    canonical,
    primary,
    variety_of,
    with_script,
    written_in,
)

_SURE = 0.8
"""What a part in a second language needs: with less, it is a near relative that was mistaken."""
_NEGLIGIBLE = 0.001
_DEFAULTS = LanguageSettings()


@dataclass(frozen=True, slots=True)
class Identification:
    """What is known of the language of a text."""

    language: str
    """Code of the one that counts, without script and region: ``fa`` for ``pes`` as for ``fa-AF``;
    ``und``."""
    variety: str
    """Its BCP-47 tag with script, region and variant as far as they are said; ``und``."""
    method: str
    """What decided: ``declared``, the name of the detector, or ``none``."""
    detected: str
    """BCP-47 tag of the detected one, with its script where that has to be said; ``und``."""
    score: float
    """Mean probability of the detected one, 0 to 1; of the best guess where it is ``und``."""
    declared: str | None = None
    """Canonical BCP-47 tag; None without one, or if it is none, or names no language."""
    script: str | None = None
    """ISO 15924 code of most letters; None without letters."""
    languages: Mapping[str, float] = field(default_factory=dict)
    """Shares of the letters by language where there are at least two, the largest first."""

    @property
    def disagrees(self) -> bool:
        """Whether a language was declared and another detected."""
        return disagree(self.declared, self.detected)


def disagree(declared: str | None, detected: str | None) -> bool:
    """Whether both languages are known, and cannot both be right."""
    unknown = (None, UNDETERMINED)
    if declared in unknown or detected in unknown or declared is None or detected is None:
        return False
    return not agree(declared, detected)


def identify(
    text: str, declared: str | None = None, settings: LanguageSettings = _DEFAULTS
) -> Identification:
    """Tell the language of a text.

    Args:
        text: in normal form.
        declared: what its source says, in any spelling of a BCP-47 tag.
        settings: the method and its limits.

    Raises:
        CorpusError: for candidates that the method does not know.
        MissingExtraError: without the packages of the extra ``corpus``.
    """
    tool = detector(settings.method, settings.candidates, settings.model)
    parts = parts_of(text, settings.parts, settings.part_characters)
    declared = _named(declared)
    script = _script(parts)
    detected, score, languages = _detect(parts, script, tool, settings)
    if declared and settings.decides == "declared":
        tag, method = declared, "declared"
    elif detected != UNDETERMINED:
        tag, method = detected, settings.method
    elif declared:
        tag, method = declared, "declared"
    else:
        tag, method = UNDETERMINED, "none"
    return Identification(
        primary(tag), variety_of(tag), method, detected, score, declared, script, languages
    )


def _named(declared: str | None) -> str | None:
    """The canonical tag of a declared language; None if it is no tag, or names no language."""
    tag = canonical(declared) if declared else None
    return None if tag is None or primary(tag) in NO_LANGUAGE else tag


def _script(parts: Sequence[Part]) -> str | None:
    """The script of the parts with most letters; of Chinese, the form of all its parts."""
    letters: Counter[str] = Counter()
    chinese = ""
    for part in parts:
        group = "Hani" if part.script in ("Hans", "Hant") else part.script
        letters[group] += part.letters
        if group == "Hani":
            chinese += part.text
    if not letters:
        return None
    script = max(letters, key=lambda code: (letters[code], code))
    return main_script(chinese) if script == "Hani" else script


def _detect(
    parts: Sequence[Part], script: str | None, tool: Detector, settings: LanguageSettings
) -> tuple[str, float, dict[str, float]]:
    """The language, its score, and the shares of a mixed text."""
    total = sum(part.letters for part in parts)
    if script is None or total < settings.minimum_letters:
        return UNDETERMINED, 0.0, {}
    mean: defaultdict[str, float] = defaultdict(float)
    shares: defaultdict[str, float] = defaultdict(float)
    sure: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        ranking = [
            (language, probability)
            for language, probability in tool.ranking(part.text)
            if probability >= _NEGLIGIBLE and written_in(language, part.script)
        ]
        share = part.letters / total
        for language, probability in ranking:
            mean[language] += share * probability
        if ranking:
            best, probability = ranking[0]
            shares[best] += share
            if probability >= _SURE:
                sure[best] += share
    if not mean:
        return UNDETERMINED, 0.0, {}
    language = max(mean, key=lambda tag: (mean[tag], tag))
    score = min(mean[language], 1.0)
    others = [tag for tag in sure if tag != language and sure[tag] >= settings.mixed_share]
    mixed = {}
    if others and shares[language] >= settings.mixed_share:
        score = min(score / shares[language], 1.0)
        chosen = sorted([language, *others], key=lambda tag: (-shares[tag], tag))
        mixed = {tag: round(shares[tag], 4) for tag in chosen}
    if score < settings.confidence:
        return UNDETERMINED, round(score, 4), mixed
    return with_script(language, script), round(score, 4), mixed
