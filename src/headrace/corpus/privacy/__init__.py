"""Private information in texts of many languages: found, masked or replaced, and recorded.

Needs the extra ``corpus``.  docs/privacy.md says what is found and what is not.
"""

from headrace.corpus.privacy.deidentify import MODES, Mode, Result, Span, deidentify
from headrace.corpus.privacy.key import Key, load_key, make_key
from headrace.corpus.privacy.scan import Finding, Gap, Scan, find
from headrace.corpus.privacy.surrogates import subject_keys

__all__ = [
    "MODES",
    "Finding",
    "Gap",
    "Key",
    "Mode",
    "Result",
    "Scan",
    "Span",
    "deidentify",
    "find",
    "load_key",
    "make_key",
    "subject_keys",
]
