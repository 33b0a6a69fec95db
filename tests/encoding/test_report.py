from __future__ import annotations

from headrace.encoding.report import SentenceReport, render_table


def test_reports_add_up() -> None:
    first = SentenceReport(sentences=1, words=2, tokens=3, entities=4, entities_lost=1)
    second = SentenceReport(sentences=10, words=20, tokens=30, words_truncated=5)
    assert first + second == SentenceReport(
        sentences=11, words=22, tokens=33, entities=4, entities_lost=1, words_truncated=5
    )
    assert SentenceReport(**first.as_dict()) == first


def test_the_table_names_the_loss_and_the_sum() -> None:
    table = render_table(
        [
            ("en a", SentenceReport(sentences=1000, words=5, tokens=10, entities_lost=2)),
            ("hi b", SentenceReport(sentences=1, words=5, tokens=5, words_truncated=7)),
        ]
    )
    lines = table.splitlines()
    assert "words cut off" in lines[0]
    assert "entities lost" in lines[0]
    assert lines[1].split() == ["en", "a", "1,000", "5", "10", *"000002", "2.00"]
    assert lines[3].split() == [
        "all",
        "1,001",
        "10",
        "15",
        *"007002"[:1],
        "0",
        "7",
        "0",
        "0",
        "2",
        "1.50",
    ]
    assert "all" not in render_table([("en a", SentenceReport())])
    assert "0.00" in render_table([("en a", SentenceReport())])
