"""The section of a recipe about duplicates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from headrace.config.section import Section

Unit = Literal["auto", "words", "characters"]


class NearSettings(Section):
    """Texts that are nearly the same, by MinHash and LSH."""

    threshold: float = Field(0.8, gt=0, lt=1)
    """Jaccard similarity of the sets of shingles from which on two texts are near-duplicates."""
    permutations: int = Field(128, ge=16, le=1024)
    """Values of a signature, of 4 bytes each. The standard error of an estimated similarity J is
    the root of J (1 - J) / permutations."""
    unit: Unit = "auto"
    """What shingles are made of. `auto`: words, and characters where at least half of a text's
    letters are of scripts that put no white space between words."""
    words: int = Field(5, ge=1, le=50)
    """Words of a shingle."""
    characters: int = Field(7, ge=1, le=100)
    """Characters of a shingle; a run of white space is one."""
    verify: Literal["signature", "text"] = "text"
    """How a pair that LSH proposes is checked. `signature`: by the estimate from the whole
    signatures. `text`: by the similarity itself where the estimate is within three standard errors
    of the threshold; the texts are read once more for that."""
    seed: int = Field(17, ge=0, lt=2**63)
    """Of the hash functions."""


class SemanticSettings(Section):
    """Texts that mean the same, by the vectors of an encoder."""

    model: str = Field(min_length=1)
    """Folder of an encoder in Hugging Face format; `${NAME}` is an environment variable."""
    threshold: float = Field(0.95, gt=0, le=1)
    """Cosine of two vectors from which on the documents mean the same."""
    pooling: Literal["mean", "cls"] = "mean"
    """What a vector is: the mean of the last hidden states, or that of the first token."""
    max_length: int = Field(256, ge=3)
    """Tokens of a document that are read; of the rest nothing is known."""


class DuplicatesSettings(Section):
    """Which documents say the same, and which of them is kept."""

    exact: bool = True
    """Whether documents with the same normalised text are duplicates."""
    near: NearSettings | None = Field(default_factory=NearSettings)
    """`null`: near-duplicates are not looked for."""
    semantic: SemanticSettings | None = None
    """Documents that mean the same in other words; `null`: they are not looked for."""
    keep: Literal["first", "longest"] | Annotated[tuple[str, ...], Field(min_length=1)] = "first"
    """Which document of a cluster is kept. `first`: by the order of the recipe's sources, then by
    reading order. `longest`: that with most characters, the first of these. A list: ids of sources,
    best first; those that it does not name come behind it, in the recipe's order."""
