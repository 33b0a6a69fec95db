"""The longest-match lexicon baseline of named entity recognition.

It knows only the entities of the training sentences, each with its most frequent type, and finds
them again wherever their words occur.  What a trained model scores above it is what the model
learned beyond remembering names.  The baseline of CoNLL-2003 (Tjong Kim Sang and De Meulder,
2003) is this one without the entities that have more than one type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from headrace.tasks.spans import Span, strict_spans, tags_of_spans


class Lexicon:
    """Entities by their words, with the type to tag them with."""

    def __init__(
        self, counts: Mapping[tuple[str, ...], Mapping[str, int]], *, lower_case: bool = False
    ) -> None:
        """Make a lexicon from entity counts: words -> type -> occurrences.

        The type of an entity is its most frequent one; of equally frequent types, the first by
        name.  With ``lower_case``, words are compared without regard to case.
        """
        self.lower_case = lower_case
        folded: dict[tuple[str, ...], Counter[str]] = {}
        for words, types in counts.items():
            folded.setdefault(self._fold(words), Counter()).update(types)
        self.types: Mapping[tuple[str, ...], str] = {
            words: min(types, key=lambda type_: (-types[type_], type_))
            for words, types in folded.items()
        }
        self._longest: dict[str, int] = {}
        for words in self.types:
            self._longest[words[0]] = max(len(words), self._longest.get(words[0], 0))

    @classmethod
    def from_sentences(
        cls,
        sentences: Iterable[tuple[Sequence[str], Sequence[str]]],
        *,
        lower_case: bool = False,
    ) -> Lexicon:
        """Collect the entities of (tokens, IOB2 tags) pairs, by the strict span rule."""
        counts: dict[tuple[str, ...], Counter[str]] = {}
        for tokens, tags in sentences:
            for span in strict_spans(tags):
                words = tuple(tokens[span.start : span.end])
                counts.setdefault(words, Counter())[span.type] += 1
        return cls(counts, lower_case=lower_case)

    def __len__(self) -> int:
        return len(self.types)

    def tag(self, tokens: Sequence[str]) -> list[str]:
        """IOB2 tags of a sentence, one a token.

        From left to right, the longest entity that begins at a word is taken, and the search goes
        on after it.
        """
        words = self._fold(tokens)
        spans = []
        position = 0
        while position < len(words):
            longest = min(self._longest.get(words[position], 0), len(words) - position)
            for length in range(longest, 0, -1):
                type_ = self.types.get(words[position : position + length])
                if type_ is not None:
                    spans.append(Span(position, position + length, type_))
                    position += length
                    break
            else:
                position += 1
        return tags_of_spans(spans, len(words))

    def _fold(self, words: Sequence[str]) -> tuple[str, ...]:
        return tuple(word.lower() for word in words) if self.lower_case else tuple(words)
