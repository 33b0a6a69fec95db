from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from headrace.corpus.readers import Findings, read
from headrace.errors import CorpusError

WriteFile = Callable[..., str]


def test_text_and_tokens(write_file: WriteFile) -> None:
    lines = [
        {"id": "a/1", "text": "hello world", "lang": "en", "n": 3},
        {"id": 7, "tokens": ["New", "York"], "tags": ["B-LOC", "I-LOC"], "domain": "news"},
        {"text": "no id"},
    ]
    url = write_file("\n".join(json.dumps(line) for line in lines) + "\n\n", "x.jsonl")
    text, tokens, plain = read(url, language="en")
    assert text.text == "hello world"
    assert text.metadata == {"id": "a/1", "language": "en", "lang": "en", "n": 3}
    assert text.key.startswith("a_1-")
    assert tokens.text == "New York"
    assert tokens.metadata == {
        "id": "7",
        "language": "en",
        "tokens": ["New", "York"],
        "tags": ["B-LOC", "I-LOC"],
        "domain": "news",
    }
    assert (plain.key, plain.origin) == ("x-000003", f"{url}:3")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": ', "not JSON"),
        ('["text"]', "not a JSON object"),
        ("[" * 100_000, "nested too deep"),
        ('{"text": ""}', "no text"),
        ('{"text": 3}', "not a string with words"),
        ('{"x": 1}', "no text"),
        ('{"text": "a", "id": [1]}', "id is not"),
        ('{"text": "\\ud800"}', "surrogate"),
        ('{"text": "a", "n": NaN}', "NaN"),
        ('{"tokens": [], "tags": []}', "tokens is not"),
        ('{"tokens": ["a", ""], "tags": ["O", "O"]}', "tokens is not"),
        ('{"tokens": ["a"]}', "tags is not"),
        ('{"tokens": ["a", "b"], "tags": ["O"]}', "different lengths"),
        ('{"tokens": ["a"], "tags": ["I-LOC"]}', "does not continue"),
        ('{"tokens": ["a"], "tags": ["LOC"]}', "not an IOB2 tag"),
    ],
)
def test_each_fault_is_one_message_with_its_line(
    write_file: WriteFile, line: str, message: str
) -> None:
    url = write_file('{"text": "fine"}\n' + line + '\n{"text": "fine too"}\n', "x.jsonl")
    with pytest.raises(CorpusError) as caught:
        list(read(url))
    (problem,) = caught.value.problems
    assert problem.where == f"{url}:2"
    assert message in problem.what


def test_repair(write_file: WriteFile) -> None:
    url = write_file('{"tokens": ["a"], "tags": ["I-LOC"]}\r\n', "x.jsonl")
    findings = Findings(url, repair=True)
    (sample,) = read(url, findings=findings)
    assert sample.metadata["tags"] == ["B-LOC"]
    assert findings.repairs == {"inside_tags_without_begin": 1, "windows_line_ends": 1}
