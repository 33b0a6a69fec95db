from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest

from headrace.corpus.readers import detect_format


@pytest.mark.parametrize(
    ("content", "name", "format"),
    [
        ("# id 1\tdomain=en\nx _ _ O\n", "x", "multiconer"),
        ("\ufeff# id 1\tdomain=en\r\nx _ _ O\r\n", "x", "multiconer"),
        ("\n\nx _ _ O\n\ny _ _ B-A\n", "x", "conll"),
        ("x\tB-A\n", "x", "conll"),
        ("EU NNP B-NP B-ORG\n", "x", "conll"),
        ("1\tEU\tB-ORG\n", "x", "iob2"),
        ("# sent_id = 1\n1\tEU\tB-ORG\t-\t-\n", "x", "iob2"),
        ('{"text": "a"}\n', "x", "jsonl"),
        ("x\n", "x.conll", "conll"),
        ("{", "x.conll", "jsonl"),
        ("", "x.iob2", "iob2"),
    ],
)
def test_formats_are_told_by_content_and_then_by_name(
    write_file: Callable[..., str], content: str, name: str, format: str
) -> None:
    assert detect_format(write_file(content, name)) == format
    assert detect_format(write_file(gzip.compress(content.encode()), f"{name}.gz")) == format
