"""Documents that say the same: exact, nearly or in other words, and which of them is kept.

Needs the extra ``corpus``.  docs/duplicates.md says what is found and at what cost.

A build uses it in three places.  A :class:`Signer` gives each document the column ``signature`` of
its part (``Signer(settings.near).columns(document)``).  When all parts are written,
``find_duplicates(parts, folder, settings, each)`` runs the stages, each a function of a folder and
a number, through ``each``: a map on any workers.  Then ``read_decisions(folder, number)`` says of a
part's rows which cluster they are in, and by which rule those go that are not kept.
"""

from headrace.corpus.duplicates.decide import (
    EXACT_RULE,
    NEAR_RULE,
    SEMANTIC_RULE,
    Decision,
    read_decisions,
)
from headrace.corpus.duplicates.layout import Part
from headrace.corpus.duplicates.search import Each, Summary, find_duplicates
from headrace.corpus.duplicates.settings import (
    DuplicatesSettings,
    NearSettings,
    SemanticSettings,
)
from headrace.corpus.duplicates.signatures import Signer

__all__ = [
    "EXACT_RULE",
    "NEAR_RULE",
    "SEMANTIC_RULE",
    "Decision",
    "DuplicatesSettings",
    "Each",
    "NearSettings",
    "Part",
    "SemanticSettings",
    "Signer",
    "Summary",
    "find_duplicates",
    "read_decisions",
]
