"""Language tags (BCP 47): one spelling, which scripts a language is written in, and agreement."""

from __future__ import annotations

from functools import lru_cache

from headrace.corpus.languages.scripts import same_script
from headrace.errors import MissingExtraError

try:
    from langcodes import Language, standardize_tag
except ModuleNotFoundError:
    raise MissingExtraError("langcodes", "corpus", "reading language tags") from None

UNDETERMINED = "und"
NO_LANGUAGE = frozenset({"und", "mul", "mis", "zxx"})
"""ISO 639 codes that name no language: unknown, several, without a code, no language at all."""

_PRINCIPAL = {
    "nb": "no", "cmn": "zh", "arb": "ar", "pes": "fa", "prs": "fa", "swh": "sw", "zlm": "ms",
    "zsm": "ms", "ekk": "et", "lvs": "lv", "khk": "mn", "azj": "az", "uzn": "uz", "uzs": "uz",
    "npi": "ne", "ory": "or", "als": "sq", "plt": "mg", "kmr": "ku", "ydd": "yi", "pbt": "ps",
    "pbu": "ps", "gug": "gn", "quz": "qu", "hbo": "he", "fuv": "ff", "knn": "kok", "gom": "kok",
}  # fmt: skip
"""Codes of one language where another code (its ISO 639-3 macrolanguage, of two letters in most
cases) usually means that one.  Other members of a macrolanguage (Cantonese, Egyptian Arabic) are
languages of their own."""

_FURTHER_SCRIPTS = {
    "az": "Cyrl Arab", "bs": "Cyrl", "crh": "Latn", "ff": "Adlm Arab", "fuv": "Adlm Arab",
    "gom": "Latn", "ha": "Arab", "hbo": "Hebr", "kk": "Latn Arab", "ku": "Arab",
    "ky": "Arab", "mn": "Mong", "ms": "Arab", "pa": "Arab", "sr": "Latn", "sw": "Arab",
    "tg": "Arab", "tk": "Cyrl Arab", "tt": "Latn", "ug": "Cyrl Latn", "uz": "Cyrl Arab",
    "uzs": "Arab", "wuu": "Hant", "yue": "Hans", "zh": "Hant",
}  # fmt: skip
"""Scripts that a language is written in besides its likely one (CLDR, likely subtags)."""


_TWO_SCRIPTS = frozenset({"az", "crh", "ff", "kk", "ku", "pa", "sr", "tk", "uz", "yue", "zh"})
"""Languages with so much text in two scripts that a tag without the script says too little."""


@lru_cache(maxsize=4096)
def canonical(tag: str) -> str | None:
    """The usual spelling of a tag (``pt_br``, ``por-BR`` -> ``pt-BR``); None if it is none."""
    try:
        standard = standardize_tag(tag.strip())
    except ValueError:
        return None
    language = Language.get(standard)
    return standard if language.language and language.is_valid() else None


@lru_cache(maxsize=4096)
def primary(tag: str) -> str:
    """The language of a canonical tag, one code for those that stand for each other."""
    language = Language.get(tag).language or UNDETERMINED
    return _PRINCIPAL.get(language, language)


@lru_cache(maxsize=4096)
def variety_of(tag: str) -> str:
    """A canonical tag with :func:`primary` for its language: ``pes-IR`` -> ``fa-IR``."""
    language = Language.get(tag).language
    if language is None:
        return tag
    return primary(tag) + tag[len(language) :]


@lru_cache(maxsize=4096)
def scripts_of(language: str) -> tuple[str, ...]:
    """ISO 15924 codes of what a language is written in today, the likely one first."""
    # CLDR has the Cypriot syllabary for grc: Linear B and it are its oldest records.
    likely = "Grek" if language == "grc" else Language.get(language).maximize().script
    further = _FURTHER_SCRIPTS.get(language, "").split()
    return (*((likely,) if likely else ()), *further)


@lru_cache(maxsize=1 << 15)
def written_in(language: str, script: str) -> bool:
    """Whether texts of a language are in a script."""
    return any(same_script(script, one) for one in scripts_of(language))


def with_script(language: str, script: str | None) -> str:
    """The tag with its script where that has to be said: ``sr-Latn``, ``zh-Hans``, ``ms-Arab``."""
    scripts = scripts_of(language)
    if script not in scripts or (script == scripts[0] and language not in _TWO_SCRIPTS):
        return language
    return f"{language}-{script}"


def agree(declared: str, detected: str) -> bool:
    """Whether two canonical tags can both be right.

    The languages are the same, and so are the scripts where both are known: ``zh`` and ``zh-CN``
    agree with ``zh-Hans``, ``zh-TW`` does not.
    """
    if primary(declared) != primary(detected):
        return False
    one, other = (Language.get(tag).maximize() for tag in (declared, detected))
    said = all(len(tag.split("-")) > 1 for tag in (declared, detected))
    return not said or not (one.script and other.script) or same_form(one.script, other.script)


def same_form(one: str, other: str) -> bool:
    """Whether two scripts are one, simplified and traditional Chinese apart."""
    return one == other or ("Hani" in (one, other) and same_script(one, other))
