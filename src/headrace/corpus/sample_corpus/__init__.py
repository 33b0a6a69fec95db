"""The built-in sample corpus: made-up named-entity sentences in twelve languages.

It stands in for MultiCoNER II where that cannot be shipped: the same 33 fine types, the same CoNLL
layout, one token a character in Chinese, lower case.  Every name is composed from the word lists in
``data/`` and every sentence from a template, so the corpus has no licence and no size limit.
"""

from headrace.corpus.sample_corpus.conll import FILE_NAMES, write_conll
from headrace.corpus.sample_corpus.entity_types import ENTITY_TYPES, LANGUAGES
from headrace.corpus.sample_corpus.generator import SPLITS, Sentence, generate

__all__ = [
    "ENTITY_TYPES",
    "FILE_NAMES",
    "LANGUAGES",
    "SPLITS",
    "Sentence",
    "generate",
    "write_conll",
]
