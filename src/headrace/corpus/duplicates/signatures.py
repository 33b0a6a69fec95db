"""MinHash signatures: from the shingles of a text to a few hundred bytes that stand for them.

The share of places in which the signatures of two texts are equal is an unbiased estimate of the
Jaccard similarity of their sets of shingles.  Signatures are R-MinHash of the package rensa (after
Dahlgaard, Knudsen and Thorup, "Fast similarity sketching", FOCS 2017, arXiv 1704.04370), from
hashes of our own: they depend on the text, the settings and rensa's algorithm version, and not on
the process, the machine, or how many texts are signed at a time.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.corpus.documents import Document
from headrace.corpus.duplicates.settings import NearSettings
from headrace.corpus.duplicates.shingles import shingle_sequence
from headrace.errors import MissingExtraError

SIGNATURE = "signature"
"""Column of a part: ``permutations`` values of 4 bytes, little-endian; null without a text."""


class Signer:
    """Makes the signatures of documents.

    Raises:
        MissingExtraError: without the packages of the extra ``corpus``.
    """

    def __init__(self, settings: NearSettings) -> None:
        try:
            from rensa import RMinHash
        except ImportError as error:
            raise MissingExtraError("rensa", "corpus", "finding near-duplicates") from error
        self.settings = settings
        self._hash: Any = RMinHash

    @property
    def fingerprint(self) -> list[Any]:
        """All that decides what signature a text gets, as JSON values."""
        chosen = self.settings.model_dump(exclude={"threshold", "verify"})
        return [chosen, int(self._hash.ALGORITHM_VERSION), unicodedata.unidata_version]

    def signature(self, text: str) -> NDArray[np.uint32] | None:
        """``[permutations]``, or None if there is nothing but white space."""
        hashes = shingle_sequence(text, self.settings)
        if not len(hashes):
            return None
        offsets = np.array([0, len(hashes)], np.uint64)
        matrix = self._hash.digest_matrix_from_flat_token_hashes(
            hashes, offsets, self.settings.permutations, self.settings.seed
        )
        return np.array(matrix.to_rows()[0], np.uint32)

    def columns(self, document: Document) -> dict[str, bytes | None]:
        """Return what the row of a document in a part must have: the column ``signature``."""
        signature = self.signature(document.text)
        return {SIGNATURE: None if signature is None else signature.astype("<u4").tobytes()}


def similarity(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of ``[..., permutations]`` signatures, row by row."""
    return np.asarray((a == b).mean(-1), np.float64)
