from __future__ import annotations

from collections.abc import Iterable

import pytest

from headrace.corpus.sample_corpus import LANGUAGES, Sentence, generate


@pytest.fixture(scope="session", params=LANGUAGES)
def corpus(request: pytest.FixtureRequest) -> dict[str, list[Sentence]]:
    """2,000 training and 600 validation sentences of each language."""
    language = request.param
    return {
        "train": list(generate(language, "train", 2000, 17)),
        "validation": list(generate(language, "validation", 600, 17, noisy_share=0.3)),
        "clean validation": list(generate(language, "validation", 600, 17)),
    }


@pytest.fixture(scope="session")
def mentions():
    """A function from sentences to (type, tokens) of every entity, read from the IOB2 tags."""

    def read(sentences: Iterable[Sentence]) -> list[tuple[str, tuple[str, ...]]]:
        found: list[tuple[str, list[str]]] = []
        for sentence in sentences:
            for token, tag in zip(sentence.tokens, sentence.tags, strict=True):
                if tag.startswith("B-"):
                    found.append((tag[2:], [token]))
                elif tag.startswith("I-"):
                    found[-1][1].append(token)
        return [(entity_type, tuple(tokens)) for entity_type, tokens in found]

    return read
