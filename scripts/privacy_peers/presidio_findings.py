"""What presidio's pattern recognizers find: JSON lines in, JSON lines and a summary out.

Runs in an environment of its own with presidio-analyzer; ``scripts/privacy_experiment.py`` calls
it.  There is no model: a blank spaCy pipeline parts the words, and each word in lower case stands
for its lemma, so that presidio's words of context work.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib.metadata import version

import spacy
import tldextract
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine
from spacy.language import Language

LANGUAGES = ["en", "es"]


@Language.component("words_as_lemmas")
def _words_as_lemmas(doc):  # type: ignore[no-untyped-def]
    for token in doc:
        token.lemma_ = token.lower_
    return doc


class BlankEngine(SpacyNlpEngine):
    """Words and nothing else."""

    def __init__(self) -> None:
        super().__init__(models=[{"lang_code": one, "model_name": one} for one in LANGUAGES])
        self.nlp = {}
        for language in LANGUAGES:
            self.nlp[language] = spacy.blank(language)
            self.nlp[language].add_pipe("words_as_lemmas")

    def load(self) -> None:
        """There is nothing to load."""


def main() -> None:
    """Run the script."""
    logging.disable(logging.WARNING)
    # the list of domains that the package brings, not one from the network
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    engine = BlankEngine()
    registry = RecognizerRegistry(supported_languages=LANGUAGES)
    registry.load_predefined_recognizers(languages=LANGUAGES, nlp_engine=engine)
    analyzer = AnalyzerEngine(nlp_engine=engine, registry=registry, supported_languages=LANGUAGES)
    seconds = characters = 0.0
    for line in sys.stdin:
        document = json.loads(line)
        start = time.process_time()
        found = analyzer.analyze(document["text"], language=document["lang"])
        seconds += time.process_time() - start
        characters += len(document["text"])
        spans = [[one.entity_type, one.start, one.end, one.score] for one in found]
        print(json.dumps({"spans": spans}))
    entities = sorted({one for found in registry.recognizers for one in found.supported_entities})
    summary = {
        "seconds": seconds,
        "characters": characters,
        "entities": entities,
        "version": version("presidio-analyzer"),
    }
    print(json.dumps({"summary": summary}))


if __name__ == "__main__":
    main()
