"""Languages, varieties and scripts of documents: told, compared with what sources declare.

Needs the extra ``corpus``.  docs/languages.md says how, and how often it is right.
"""

from headrace.corpus.languages.identify import Identification, disagree, identify
from headrace.corpus.languages.scripts import main_script, script_counts
from headrace.corpus.languages.settings import LanguageSettings
from headrace.corpus.languages.step import IdentifyLanguage
from headrace.corpus.languages.tags import canonical, primary, variety_of

__all__ = [
    "Identification",
    "IdentifyLanguage",
    "LanguageSettings",
    "canonical",
    "disagree",
    "identify",
    "main_script",
    "primary",
    "script_counts",
    "variety_of",
]
