"""Measures of a text's quality: lengths, characters, lines, repetition.  docs/quality.md has them.

Most are those of Rae et al. 2021 (Gopher, appendix A1.1) and Raffel et al. 2020 (C4, section 2.2),
carried over to scripts without white space: there a word is counted as its characters.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import Literal, get_args

from headrace.corpus.languages.tags import primary
from headrace.corpus.quality.characters import (
    CLOSING,
    TERMINAL,
    WITHOUT_SENTENCES,
    WITHOUT_SPACES,
    kinds,
)
from headrace.corpus.quality.repetition import Runs, repeated
from headrace.corpus.quality.stop_words import stop_words

Measure = Literal[
    "characters",
    "words",
    "mean_word_length",
    "alphabetic_words",
    "digit_share",
    "punctuation_share",
    "symbol_share",
    "uppercase_share",
    "damaged_share",
    "hashes_per_word",
    "ellipses_per_word",
    "curly_brackets",
    "lorem_ipsum",
    "lines",
    "longest_line",
    "lines_ending_in_punctuation",
    "bullet_lines",
    "ellipsis_lines",
    "sentences",
    "question_share",
    "mean_sentence_length",
    "code_lines",
    "repeated_lines",
    "repeated_line_characters",
    "repeated_paragraphs",
    "repeated_paragraph_characters",
    "commonest_2_words",
    "commonest_3_words",
    "commonest_4_words",
    "repeated_5_words",
    "repeated_10_words",
    "stop_words",
    "stop_word_share",
]
MEASURES: tuple[Measure, ...] = get_args(Measure)

_LETTER = re.compile(r"[^\W\d_]")
_SENTENCE = re.compile(
    rf"(?<![.!?…؟۔।॥።])[.!?…؟۔।॥።]+(?=[{re.escape(CLOSING)}]*(?:\s|$))|[。！？｡]+", re.MULTILINE
)
_QUESTION = re.compile(r"[?？؟፧]")
_ELLIPSIS = re.compile(r"\.\.\.+|…")
_BULLETS = tuple("-*•‣▶►◦●○■□▪▫∙·")
_CODE = re.compile(r"[{}\[\]<>=;|\\/_$&^~`*+#@%]")
_CODE_SHARE = 0.08
"""Share of a line's characters that makes it code or mark-up."""
_AROUND = string.punctuation + "“”„‘’«»‹›…،؛؟।॥۔¿¡"


def measure(text: str, language: str = "und", script: str | None = None) -> dict[str, float]:
    """The measures of a text that apply to it.

    ``mean_word_length`` and ``alphabetic_words`` are left out for scripts without white space,
    ``uppercase_share`` where most letters have no case, ``mean_sentence_length`` for Thai and Lao,
    which mark no ends of sentences, those of stop words for languages without a
    list.

    Args:
        text: in normal form, not empty.
        language: BCP-47 tag.
        script: ISO 15924 code of most letters.
    """
    found: dict[str, float] = {"characters": len(text)}
    width = WITHOUT_SPACES.get(script or "")
    words = text.split()
    solid = "".join(words)
    count = len(solid) if width else len(words)
    found["words"] = count
    distinct = Counter(words)
    if not width:
        found["mean_word_length"] = len(solid) / max(count, 1)
        alphabetic = sum(times for word, times in distinct.items() if _LETTER.search(word))
        found["alphabetic_words"] = alphabetic / max(count, 1)
    found |= _characters(text, len(solid))
    found["hashes_per_word"] = text.count("#") / max(count, 1)
    found["ellipses_per_word"] = len(_ELLIPSIS.findall(text)) / max(count, 1)
    found["curly_brackets"] = text.count("{") + text.count("}")
    found["lorem_ipsum"] = text.lower().count("lorem ipsum")
    found |= _lines(text)
    found |= _sentences(text, len(solid), script)
    runs = Runs.of_characters(solid) if width else Runs.of_words(words)
    found |= _runs(runs, width or 1)
    found |= _function_words(solid, distinct, count, primary(language), bool(width))
    return {name: round(value, 4) for name, value in found.items()}


def _characters(text: str, solid: int) -> dict[str, float]:
    counts = kinds(text)
    cased = counts["upper"] + counts["lower"]
    found = {
        "digit_share": counts["digit"] / max(solid, 1),
        "punctuation_share": counts["punctuation"] / max(solid, 1),
        "symbol_share": counts["symbol"] / max(solid, 1),
        "damaged_share": counts["damage"] / max(solid, 1),
    }
    if cased > counts["letter"]:
        found["uppercase_share"] = counts["upper"] / cased
    return found


def _lines(text: str) -> dict[str, float]:
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    count = max(len(lines), 1)
    ending = sum(line.rstrip(CLOSING)[-1:] in TERMINAL for line in lines)
    ellipsis = sum(line.endswith(("...", "…")) for line in lines)
    code = sum(len(_CODE.findall(line)) >= _CODE_SHARE * len(line) for line in lines)
    paragraphs = [part for part in map(str.strip, text.split("\n\n")) if part]
    line_share, line_characters = repeated(lines)
    paragraph_share, paragraph_characters = repeated(paragraphs)
    return {
        "lines": len(lines),
        "longest_line": max(map(len, lines), default=0),
        "lines_ending_in_punctuation": ending / count,
        "bullet_lines": sum(line.startswith(_BULLETS) for line in lines) / count,
        "ellipsis_lines": ellipsis / count,
        "code_lines": code / count,
        "repeated_lines": line_share,
        "repeated_line_characters": line_characters,
        "repeated_paragraphs": paragraph_share,
        "repeated_paragraph_characters": paragraph_characters,
    }


def _sentences(text: str, solid: int, script: str | None) -> dict[str, float]:
    """A sentence ends with its mark before white space, or with the text; lines end none."""
    ends = _SENTENCE.findall(text)
    tail = text.rstrip(CLOSING + " \n")[-1:] not in TERMINAL
    count = len(ends) + tail
    found = {
        "sentences": count,
        "question_share": sum(bool(_QUESTION.search(end)) for end in ends) / max(count, 1),
    }
    if script not in WITHOUT_SENTENCES:
        found["mean_sentence_length"] = solid / max(count, 1)
    return found


def _runs(runs: Runs, width: int) -> dict[str, float]:
    return {
        **{f"commonest_{n}_words": runs.commonest(n * width) for n in (2, 3, 4)},
        **{f"repeated_{n}_words": runs.repeated(n * width) for n in (5, 10)},
    }


def _function_words(
    solid: str, words: Counter[str], count: int, language: str, by_character: bool
) -> dict[str, float]:
    known = stop_words().get(language)
    if known is None:
        return {}
    if by_character:
        words = Counter(solid)
    occurring: Counter[str] = Counter()
    for word, times in words.items():
        bare = word.lower()
        if bare not in known:
            bare = bare.strip(_AROUND)
        if bare in known:
            occurring[bare] += times
    return {
        "stop_words": len(occurring),
        "stop_word_share": sum(occurring.values()) / max(count, 1),
    }
