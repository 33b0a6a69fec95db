"""Groups by a field of the samples' metadata, from real shards."""

import json

import numpy as np
import pytest

from headrace.errors import UserError
from headrace.selection.metadata_groups import groups_by
from headrace.shards import ShardReader, ShardWriter
from headrace.shards.sample import Sample


@pytest.fixture
def readers(tmp_path):
    def make(**values):
        """Sources by name, of samples whose ``json`` has these values as ``topic``.

        None stands for a sample without the field, bytes for what is in ``json``.
        """
        made = {}
        for name, topics in values.items():
            size = max(3, len(topics) // 2)
            with ShardWriter(str(tmp_path / name), samples_per_shard=size) as writer:
                for number, topic in enumerate(topics):
                    content = {} if topic is None else {"topic": topic}
                    raw = topic if isinstance(topic, bytes) else json.dumps(content).encode()
                    writer.write(Sample(f"{number:03}", {"txt": b"text", "json": raw}))
            made[name] = ShardReader(str(tmp_path / name))
        return made

    return make


def test_each_value_is_a_group_over_all_sources(readers):
    topics = {"en": ["law", 3, True, "law", 3.0, 2.5, None], "hi": [b"{}", "3", "law", "a=b"]}
    groups, names = groups_by(readers(**topics), "topic")
    expected = ["law", "3", "true", "law", "3", "2.5", "(none)", "(none)", "3", "law", "a=b"]
    assert [names[group] for group in groups] == expected
    assert list(names) == sorted(set(expected))
    assert groups.dtype == np.int32


def test_samples_without_metadata_are_a_group(readers, tmp_path):
    with ShardWriter(str(tmp_path / "plain"), fields=("txt",)) as writer:
        for number in range(4):
            writer.write(Sample(f"{number}", {"txt": b"text"}))
    with_field = readers(hi=["law", "art"])
    plain = ShardReader(str(tmp_path / "plain"))
    groups, names = groups_by({"en": plain, **with_field}, "topic")
    assert names == ("(none)", "art", "law")
    assert groups.tolist() == [0] * 4 + [2, 1]
    with pytest.raises(UserError, match=r"no sample has the field \(value: topic\).*samples: none"):
        groups_by({"en": plain}, "topic")


def test_a_field_that_no_sample_has_is_refused_with_those_there_are(readers):
    with pytest.raises(UserError, match=r"no sample has the field \(value: topik\).*: topic$"):
        groups_by(readers(en=["law", "art", None], hi=[None] * 3), "topik")


def test_values_that_are_no_groups_are_named(readers):
    with pytest.raises(UserError) as caught:
        groups_by(readers(en=["law", ["a"], {"b": 1}, "law"]), "topic")
    (problem,) = caught.value.problems
    assert "neither a text nor a number" in problem.what
    assert problem.value == "en/001, en/002"


def test_too_many_groups_are_refused_by_the_name_of_the_field(readers):
    assert len(groups_by(readers(en=list(range(1000))), "topic")[1]) == 1000
    with pytest.raises(UserError, match=r"more than 1,000 different values.*topic"):
        groups_by(readers(hi=list(range(1001))), "topic")


def test_metadata_that_is_no_json_is_named_with_all_else(readers):
    with pytest.raises(UserError) as caught:
        groups_by(readers(en=["law", b"{", "law", "law", b"[]", []]), "topic")
    found = " ".join(map(str, caught.value.problems))
    assert "not JSON" in found
    assert "not a JSON object" in found
