"""Languages by a model of fastText that the recipe names."""

import sys

import pytest
from pydantic import ValidationError

from headrace.corpus.languages import LanguageSettings, identify
from headrace.corpus.languages.fasttext_model import FastText, languages_of
from headrace.errors import CorpusError, MissingExtraError
from tests.corpus.languages.fasttext_files import WORDS, write_model


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model.bin")


def told(text, model, **more):
    return identify(text, None, LanguageSettings(method="fasttext", model=str(model), **more))


def test_labels_in_any_spelling_are_languages(model):
    assert languages_of(model) == {
        "__label__eng_Latn": "en", "__label__de": "de", "__label__rus_Cyrl": "ru",
    }  # fmt: skip


def test_the_probabilities_are_those_of_the_model(model):
    """Two words of three speak for one language: softmax of 6, 3 and 0."""
    ranking = FastText(str(model), None).ranking("river water Wasser")
    assert [tag for tag, _ in ranking] == ["en", "de", "ru"]
    values = [value for _, value in ranking]
    assert values == pytest.approx([0.95033, 0.04731, 0.00236], abs=2e-5)


def test_a_text_is_told_by_its_parts(model):
    found = told("Wasser Fluss Wasser Fluss Wasser Fluss", model)
    assert (found.language, found.method, found.script) == ("de", "fasttext", "Latn")
    assert found.score > 0.99


def test_a_language_in_another_script_is_no_answer(tmp_path):
    model = write_model(tmp_path / "model.bin", words={**WORDS, "river": "__label__rus_Cyrl"})
    assert told("river river river river river", model).language == "und"


def test_labels_of_one_language_are_added_up(tmp_path):
    labels = ["__label__zho_Hans", "__label__zho_Hant", "__label__ja"]
    words = dict(zip("abc", labels, strict=True))
    model = write_model(tmp_path / "model.bin", labels, words)
    ranking = dict(FastText(str(model), None).ranking("a b c"))
    assert ranking == pytest.approx({"zh": 2 / 3, "ja": 1 / 3}, abs=1e-4)


def test_only_candidates_are_answers(model):
    detector = FastText(str(model), ("de", "ru"))
    assert detector.languages == {"de", "ru"}
    assert [tag for tag, _ in detector.ranking("river Wasser")] == ["de", "ru"]
    with pytest.raises(CorpusError) as error:
        told("river", model, candidates=("de", "xh", "zu"))
    assert [problem.value for problem in error.value.problems] == ["xh", "zu"]


def test_alemannic_of_wikipedia_is_not_albanian(tmp_path):
    """``als`` is a code of ISO 639-3 for an Albanian, and Wikipedia's for Alemannic."""
    words = {"a": "__label__als"}
    both = write_model(tmp_path / "both.bin", ["__label__als", "__label__sq"], words)
    assert languages_of(both) == {"__label__als": "gsw", "__label__sq": "sq"}
    alone = write_model(tmp_path / "alone.bin", ["__label__als_Latn"], {"a": "__label__als_Latn"})
    assert languages_of(alone) == {"__label__als_Latn": "sq"}


def test_a_text_of_unknown_words_has_no_answer(model):
    assert FastText(str(model), None).ranking("bridge\nmill") == []
    assert told("bridge mill bridge mill bridge mill", model).language == "und"


def test_files_that_are_no_model_are_refused(tmp_path, model):
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "text.bin").write_text("river " * 100)
    (tmp_path / "short.bin").write_bytes(model.read_bytes()[:110])
    vectors = write_model(tmp_path / "vectors.bin", kind=1)
    topics = write_model(tmp_path / "topics.bin", ["__label__1", "__label__2"], {"a": "__label__1"})
    wanted = {
        tmp_path / "none.bin": "No such file or directory",
        tmp_path / "empty.bin": "no fastText model that has labels",
        tmp_path / "text.bin": "no fastText model that has labels",
        tmp_path / "short.bin": "no fastText model that has labels",
        vectors: "no fastText model that has labels",
        topics: "no label of the model is a language",
    }
    for path, what in wanted.items():
        with pytest.raises(CorpusError) as error:
            languages_of(path)
        (problem,) = error.value.problems
        assert (problem.what, problem.where) == (what, "languages.model")


@pytest.mark.parametrize("wrong", [{"method": "fasttext"}, {"model": "lid.176.bin"}])
def test_method_and_model_belong_together(wrong):
    with pytest.raises(ValidationError, match="belong together"):
        LanguageSettings(**wrong)


def test_without_the_package_the_extra_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(MissingExtraError, match=r"headrace\[fasttext\]"):
        FastText(str(model), None)
