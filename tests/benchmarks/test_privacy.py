"""Counting what is found of private information."""

from headrace.benchmarks.privacy import score


def test_half_of_a_span_is_a_hit_and_whole_ones_count_for_any():
    gold = [[("EMAIL", 0, 10), ("PHONE", 20, 30), ("PERSON", 40, 50)]]
    found = [[("EMAIL", 0, 5), ("IBAN", 20, 30), ("PHONE", 60, 70), ("PERSON", 90, 95)]]
    assert score(gold, found) == {
        "EMAIL": {"gold": 1, "hit": 1, "found": 1, "right": 1},
        "IBAN": {"gold": 0, "hit": 0, "found": 1, "right": 0},
        "PERSON": {"gold": 1, "hit": 0, "found": 1, "right": 0},
        "PHONE": {"gold": 1, "hit": 0, "found": 1, "right": 0},
        "any": {"gold": 2, "hit": 1, "found": 3, "right": 2},
    }


def test_less_than_half_is_none():
    counts = score([[("EMAIL", 0, 10)]], [[("EMAIL", 6, 20)]])
    assert counts["EMAIL"] == {"gold": 1, "hit": 0, "found": 1, "right": 0}


def test_several_findings_cover_a_span_together():
    counts = score([[("EMAIL", 0, 10)]], [[("EMAIL", 0, 5), ("EMAIL", 5, 10)]])
    assert counts["EMAIL"] == {"gold": 1, "hit": 1, "found": 2, "right": 2}
    assert counts["any"]["hit"] == 1
