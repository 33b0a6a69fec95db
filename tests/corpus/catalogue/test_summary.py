"""The numbers of a corpus against plain Python."""

import math
from collections import Counter, defaultdict
from statistics import median

import pytest

from headrace.corpus.catalogue.catalogue import Catalogue
from headrace.corpus.catalogue.speakers import read_speakers, representation
from headrace.corpus.catalogue.summary import summarise
from headrace.errors import CorpusError
from headrace.shards.tombstones import Removed, add_tombstones


def summary_of(corpus, speakers=None):
    with Catalogue(str(corpus.path)) as catalogue:
        return summarise(catalogue, speakers)


@pytest.fixture(scope="module")
def summary(written_corpus):
    return summary_of(written_corpus)


def sizes(documents):
    texts = [document.text for document in documents]
    return {
        "documents": len(texts),
        "characters": sum(map(len, texts)),
        "bytes": sum(len(text.encode()) for text in texts),
        "words": sum(round(document.quality["words"]) for document in documents),
        "tokens": None,
    }


def test_sizes_are_those_of_the_texts(written_corpus, summary):
    totals = summary["totals"]
    assert sizes(written_corpus.documents).items() <= totals.items()
    left_out = len(written_corpus.filtered), len(written_corpus.quarantine)
    assert (totals["filtered"], totals["quarantined"]) == left_out
    assert totals["read"] == totals["documents"] + sum(left_out)
    for column in ("language", "source", "licence", "script"):
        groups = defaultdict(list)
        for document in written_corpus.documents:
            groups[getattr(document, column)].append(document)
        rows = {row.pop(column): row for row in map(dict, summary["by"][column])}
        assert rows == {value: sizes(some) for value, some in groups.items()}
    cells: Counter = Counter()
    for row in summary["cells"]:
        cells[row["language"], row["source"]] += row["documents"]
    assert cells == Counter((d.language, d.source) for d in written_corpus.documents)
    assert all(row["region"] in ("Kenya", "worldwide") for row in summary["cells"])


def test_entropy_is_shannons(summary):
    characters = [row["characters"] for row in summary["by"]["language"]]
    shares = [count / sum(characters) for count in characters]
    bits = -sum(share * math.log2(share) for share in shares)
    found = summary["entropy"]["language"]
    assert found["bits"] == pytest.approx(bits)
    assert found["largest"] == 2
    assert found["effective"] == pytest.approx(2**bits)


def test_what_rules_left_out_is_counted_by_language(written_corpus, summary):
    counts = Counter((d.language, rule) for d, rule, _ in written_corpus.filtered)
    assert {(r["language"], r["rule"]): r["documents"] for r in summary["removal"]} == counts
    for row in summary["removal"]:
        of = len(written_corpus.of(row["language"]))
        of += sum(d.language == row["language"] for d, *_ in written_corpus.filtered)
        assert (row["of"], row["share"]) == (of, pytest.approx(row["documents"] / of))


def test_private_information_duplicates_and_languages(written_corpus, summary):
    counts = Counter(d.language for d in written_corpus.documents if d.private)
    assert {r["language"]: r["findings"] for r in summary["private"]} == counts
    duplicates = summary["duplicates"]
    assert (duplicates["clusters"], duplicates["largest"]) == (5, 2)
    assert duplicates["kinds"] == {"near": 5}
    assert duplicates["left_out"] == {"near duplicate": 5}
    found = summary["identification"]
    assert found["undetected"] == 4
    assert found["undetected_by_source"] == [{"source": "web", "documents": 4}]
    assert found["mixed"] == 1
    declared = [d for d in written_corpus.documents if d.declared_language and d.detected_language]
    undecided = [d for d in declared if d.detected_language == "und"]
    wrong = [d for d in declared if d.detected_language not in ("und", d.language)]
    assert found["undecided"] == len(undecided) == 1
    assert found["compared"] == len(declared) - 1
    assert found["agreeing"] == found["compared"] - len(wrong)
    assert found["disagreements"] == [{"declared": "sw", "detected": "en", "documents": 1}]
    assert len(wrong) == 1
    assert summary["quarantine"] == [
        {"source": "news", "reason": "unreadable", "documents": 2},
        {"source": "web", "reason": "unreadable", "documents": 3},
    ]


def test_measures_and_registers_are_distributed_as_in_the_documents(written_corpus, summary):
    for row in summary["quality"]:
        values = [
            document.quality[row["measure"]]
            for document in written_corpus.documents
            if row["language"] in (None, document.language)
        ]
        assert row["documents"] == len(values)
        assert row["quantiles"][2] == pytest.approx(median(values))
    (formality,) = (tag for tag in summary["registers"] if tag["tag"] == "formality")
    counts = Counter((d.language, d.register["formality"]) for d in written_corpus.documents)
    assert {(r["language"], r["value"]): r["documents"] for r in formality["values"]} == counts


def test_removed_documents_do_not_count(own_corpus):
    sw = own_corpus.of("sw")
    gone = [sw[3], sw[30]]
    removed = [Removed(f"sw-{sw.index(d) // 25:06d}.tar", sw.index(d) % 25, d.id) for d in gone]
    add_tombstones(str(own_corpus.path / "sw"), removed)
    summary = summary_of(own_corpus)
    rest = [document for document in own_corpus.documents if document not in gone]
    assert sizes(rest).items() <= summary["totals"].items()
    assert summary["totals"]["removed"] == 2
    with Catalogue(str(own_corpus.path)) as catalogue:
        ids = {row[0] for row in catalogue.rows("SELECT id FROM documents")}
    assert ids == {document.id for document in rest}


def test_speakers_are_compared_within_their_table(tmp_path):
    file = tmp_path / "speakers.csv"
    file.write_text("\ufefflanguage,speakers,note\npt,75,x\nfr,25,\n", encoding="utf-8")
    rows = [
        {"variety": "pt-BR", "documents": 3, "characters": 10},
        {"variety": "pt", "documents": 1, "characters": 20},
        {"variety": "fr-Latn-FR", "documents": 1, "characters": 30},
        {"variety": "xx", "documents": 9, "characters": 90},
    ]
    found = representation(rows, read_speakers(str(file)))
    assert found["not_in_table"] == ["xx"]
    pt, fr = found["languages"]
    assert (pt["documents"], pt["characters"], pt["share_of_speakers"]) == (4, 30, 0.75)
    assert pt["share_of_characters"] == 0.5
    assert pt["ratio"] == pytest.approx(2 / 3)
    assert fr["ratio"] == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("language,people\nen,1\n", "columns are missing.*speakers"),
        ("language,speakers\nen,many\n", ":2: not a number of speakers"),
        ("language,speakers\nen,nan\n", "not a number of speakers"),
        ("language,speakers\nen,-1\n", "not a number of speakers"),
        ("language,speakers\nen\n", "not a number of speakers"),
        ("language,speakers\nen,1\nen,2\n", ":3: the language is there twice"),
        ("language,speakers\nEnglish!,1\n", "not a language tag"),
        ("language,speakers\nen,0\n", "nobody speaks"),
    ],
)
def test_a_wrong_table_of_speakers_is_told(tmp_path, text, says):
    file = tmp_path / "speakers.csv"
    file.write_text(text)
    with pytest.raises(CorpusError, match=says):
        read_speakers(str(file))
