from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from headrace.errors import LabelError
from headrace.tasks.labels import (
    built_in_label_sets,
    discover_label_set,
    load_label_set,
    parse_label_set,
)


class MemoryReader:
    """Stands for an opened source: samples in memory and the metadata of its manifest."""

    def __init__(self, tags: list[list[str] | None], metadata: dict[str, object]) -> None:
        self.url = "memory://source"
        self.manifest = SimpleNamespace(metadata=metadata)
        self._tags = tags

    def __iter__(self) -> Iterator[SimpleNamespace]:
        for number, tags in enumerate(self._tags):
            metadata = {} if tags is None else {"tags": tags}
            yield SimpleNamespace(key=f"s{number}", metadata=metadata)


def test_multiconer_v2_has_33_types_in_6_families_and_67_tags() -> None:
    labels = load_label_set("multiconer_v2")
    assert len(labels.types) == 33
    assert len(labels.tags) == len(set(labels.tags)) == 67
    assert labels.coarse_types == ("LOC", "CW", "GRP", "PER", "PROD", "MED")
    sizes = [sum(f == family for f in labels.coarse.values()) for family in labels.coarse_types]
    assert sizes == [4, 5, 7, 7, 5, 5]


@pytest.mark.parametrize(
    ("name", "files"),
    [("multiconer_v2", "multiconer_v2/*.conll*"), ("multiconer_v1", "multiconer_v1/*.conll")],
)
def test_built_in_types_are_exactly_those_of_the_corpus(name: str, files: str) -> None:
    if "HEADRACE_DATA" not in os.environ:
        pytest.skip("HEADRACE_DATA does not name the folder of real corpora")
    found = set()
    for path in Path(os.environ["HEADRACE_DATA"]).glob(files):
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        found |= {line.rsplit(" ", 1)[1] for line in text.splitlines() if line.count(" ") == 3}
    assert {tag[2:] for tag in found if tag != "O"} == set(load_label_set(name).types)


@pytest.mark.parametrize("name", built_in_label_sets())
def test_ids_are_positions_of_tags(name: str) -> None:
    labels = load_label_set(name)
    assert labels.name == name
    assert labels.tags[0] == "O"
    assert [labels.tag_ids[tag] for tag in labels.tags] == list(range(len(labels.tags)))
    assert set(labels.coarse) == set(labels.types)
    for number, type_ in enumerate(labels.types):
        assert labels.tags[1 + 2 * number : 3 + 2 * number] == (f"B-{type_}", f"I-{type_}")


def test_a_file_with_families_or_with_a_list(tmp_path: Path) -> None:
    path = tmp_path / "places.json"
    path.write_text('{"name": "places", "types": {"City": "LOC", "River": "LOC"}}')
    with_families = load_label_set(str(path))
    path.write_text('{"name": "other", "types": ["City", "River"]}')
    as_list = load_label_set(str(path))
    assert with_families.coarse == {"City": "LOC", "River": "LOC"}
    assert as_list.coarse == {"City": "City", "River": "River"}
    assert with_families.fingerprint == as_list.fingerprint
    path.write_text('{"name": "other", "types": ["River", "City"]}')
    assert load_label_set(str(path)).fingerprint != as_list.fingerprint


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(LabelError, match=r"Did you mean multiconer_v2\?"):
        load_label_set("multiconer-v2")


def test_missing_file_is_told() -> None:
    with pytest.raises(LabelError, match=r"nowhere\.json: .*no such file"):
        load_label_set("nowhere.json")


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelError, match="not UTF-8"):
        load_label_set(str(path))


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('{"name": "x",\n "types": {"A": }}', ["file.json:2: not valid JSON"]),
        ("[]", ["a label set is a JSON object"]),
        ("{}", ["file.json: name: needed", "file.json: types: needed"]),
        ('{"name": "x", "types": {"A": "F", "B": "F", "A": "F"}}', ["types[2]: the type is given"]),
        ('{"name": "x", "types": ["A", "A"]}', ["types[1]: the type is given twice (value: A)"]),
        ('{"name": "x", "types": []}', ["no types"]),
        ('{"name": "x", "types": {}}', ["no types"]),
        ('{"name": "x", "types": "A"}', ["not a table of types"]),
        ('{"name": "", "types": ["A"]}', ["file.json: name: not a name"]),
        ('{"name": "x", "types": ["A"], "color": 1}', ["color: unknown key"]),
        (
            '{"name": "x", "types": {"A B": "F", "C": 7, "": "F"}}',
            ["types[0]: not a name of a type", "types[1]: not a name of a coarse", "types[2]"],
        ),
    ],
)
def test_malformed_files_are_told_with_every_problem(text: str, messages: list[str]) -> None:
    with pytest.raises(LabelError) as error:
        parse_label_set(text, where="file.json")
    lines = str(error.value).splitlines()
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert message in line


def test_discovery_uses_entity_counts_or_else_the_samples() -> None:
    counted = MemoryReader([None], {"entities": {"River": 2}})
    plain = MemoryReader([["O", "B-City"], ["I-Peak"]], {})
    labels = discover_label_set([counted, plain])
    assert labels.types == ("City", "Peak", "River")
    assert labels.coarse["City"] == "City"


def test_discovery_tells_tags_that_are_not_iob2() -> None:
    reader = MemoryReader([["O", "B-City"], ["S-City", "City", "B-"]], {})
    with pytest.raises(LabelError) as error:
        discover_label_set([reader])
    assert [problem.value for problem in error.value.problems] == ["S-City", "City", "B-"]
    assert error.value.problems[0].where == "memory://source: sample s1"


@pytest.mark.parametrize("tags", [[], [["O", "O"]], [None]])
def test_discovery_needs_an_entity(tags: list[list[str] | None]) -> None:
    with pytest.raises(LabelError):
        discover_label_set([MemoryReader(tags, {})])
