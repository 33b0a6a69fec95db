"""What a recipe says about languages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from headrace.config.section import Section
from headrace.corpus.languages.detectors import Method
from headrace.corpus.languages.tags import canonical


class LanguageSettings(Section):
    """How the language of each document is told, and which documents stay."""

    method: Method = "py3langid"
    """`py3langid` (138 languages), `lingua` (75 languages), or `fasttext` with a model of your own
    (extra `fasttext`)."""
    model: str | None = None
    """File of the model for `fasttext`, such as GlotLID's or lid.176: its labels are languages."""
    candidates: tuple[str, ...] | None = None
    """Answer with these languages only; by default all that the method knows."""
    confidence: float = Field(default=0.5, ge=0, le=1)
    """Below it the language is `und`."""
    minimum_letters: int = Field(default=20, ge=1)
    """With fewer letters it is `und`; each of Chinese, Japanese and Korean counts as three."""
    parts: int = Field(default=6, ge=2)
    """Parts of a document that are looked at, evenly from all over it."""
    part_characters: int = Field(default=100, ge=50)
    """Longest part."""
    mixed_share: float = Field(default=0.2, gt=0, le=0.5)
    """Share of the text from which a second language is recorded."""
    decides: Literal["declared", "detected"] = "declared"
    """Which language counts: the declared one where there is one, or the detected one wherever it
    is not `und`."""
    keep: tuple[str, ...] | None = None
    """Leave out documents in other languages; by default all stay."""
    drop_undetermined: bool = False
    """Leave out documents whose language is `und`."""
    drop_disagreeing: bool = False
    """Leave out documents of which the detected language is not the declared one."""

    @field_validator("candidates", "keep")
    @classmethod
    def _tags(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        wrong = [tag for tag in value or () if canonical(tag) is None]
        if wrong:
            raise ValueError(f"no language tags (BCP-47), such as en, hi or pt-BR: {wrong}")
        return value

    @model_validator(mode="after")
    def _model_of_fasttext(self) -> LanguageSettings:
        if (self.method == "fasttext") != (self.model is not None):
            raise ValueError("method: fasttext and model: FILE belong together")
        return self
