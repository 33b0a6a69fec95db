from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ShardError
from headrace.shards import Sample
from headrace.shards.sample import is_key, key_of, make_sample


@given(st.text())
def test_every_identifier_gets_a_key(identifier: str) -> None:
    assert is_key(key_of(identifier))


@given(st.sets(st.text(alphabet="ab./ é-", min_size=1), min_size=2, max_size=30))
def test_different_identifiers_get_different_keys(identifiers: set[str]) -> None:
    assert len({key_of(identifier) for identifier in identifiers}) == len(identifiers)


def test_a_key_stays_as_it_is() -> None:
    assert key_of("5239d808-f300-46ea-aa3b-5093040213a3").startswith("5239d808-f300")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_and_metadata_come_back(text: str) -> None:
    sample = make_sample("k", text, {"id": text, "tokens": [text]})
    assert sample.text == text
    assert sample.metadata == {"id": text, "tokens": [text]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "no field txt"),
        ({"txt": b"\xff"}, "not UTF-8"),
    ],
)
def test_text_that_cannot_be_read(fields: dict[str, bytes], message: str) -> None:
    with pytest.raises(ShardError, match=message) as caught:
        _ = Sample("k7", fields).text
    assert "k7" in caught.value.problems[0].where


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_metadata_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(ShardError, match="json is not"):
        _ = Sample("k7", {"json": data}).metadata
