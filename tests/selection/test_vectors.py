"""Tables in several arrays, ids, and ready-made files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import SelectionError
from headrace.selection.inputs import from_files, rows_of
from headrace.selection.vectors import Stack, read_ids, ties_of


@given(sizes=st.lists(st.integers(0, 6), min_size=1, max_size=5), data=st.data())
def test_a_stack_is_the_arrays_one_after_the_other(sizes, data):
    random = np.random.default_rng(len(sizes))
    parts = [random.standard_normal((size, 3)).astype(np.float16) for size in sizes]
    stack, whole = Stack(parts, ["x"] * len(parts)), np.concatenate(parts)
    assert (stack.shape, stack.dtype, len(stack)) == (whole.shape, whole.dtype, len(whole))
    start, stop = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 30))
    np.testing.assert_array_equal(stack[start:stop], whole[start:stop])
    np.testing.assert_array_equal(stack.part(start, stop)[:], whole[start:stop])
    if len(whole):
        rows = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1))), np.int64)
        np.testing.assert_array_equal(stack[rows], whole[rows])


def test_sources_of_different_dimensions_are_named():
    with pytest.raises(SelectionError, match="en 3, hi 4"):
        Stack([np.ones((2, 3)), np.ones((2, 4))], ["en", "hi"])
    with pytest.raises(IndexError, match="rows -1 to 1 of 4"):
        Stack([np.ones((2, 3)), np.ones((2, 3))], ["en", "hi"])[np.array([1, -1])]


def test_ties_are_the_places_of_the_ids():
    ids = np.array([b"b/2", b"a/9", b"a/10", "é/1".encode()])
    np.testing.assert_array_equal(ties_of(ids), [2, 1, 0, 3])
    with pytest.raises(SelectionError, match=r"more than once \(value: a, b\)"):
        ties_of(np.array([b"a", b"b", b"c", b"b", b"a"]))


def test_ids_are_found_and_strangers_named():
    ids = np.array([b"c", b"a", b"b"])
    np.testing.assert_array_equal(rows_of(ids, np.array([b"b", b"c", b"b"]), "x"), [0, 2])
    with pytest.raises(SelectionError, match="z, bb"):
        rows_of(ids, np.array([b"z", b"a", b"bb"]), "x")


def test_ids_are_the_lines_of_a_file(tmp_path):
    file = tmp_path / "ids.txt"
    file.write_bytes("en/1\r\nहि/2\n".encode())
    assert [identifier.decode() for identifier in read_ids(str(file), "ids")] == ["en/1", "हि/2"]
    file.write_text("a\n\nb\n")
    with pytest.raises(SelectionError, match=r"ids\.txt:2: an empty line"):
        read_ids(str(file), "ids")
    file.write_text("a\na\0\n")
    with pytest.raises(SelectionError, match="row 1"):
        read_ids(str(file), "ids")


def test_groups_of_ready_made_vectors_stand_before_the_slash(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((4, 2)))
    (tmp_path / "ids").write_text("en/1\nhi/1\nen/2\nplain\n")
    inputs, fingerprint = from_files(str(tmp_path / "v.npy"), str(tmp_path / "ids"), None, tmp_path)
    assert inputs.candidates.group_names == ("en", "hi", "all")
    np.testing.assert_array_equal(inputs.candidates.groups, [0, 1, 0, 2])
    np.save(tmp_path / "v.npy", 2 * np.ones((4, 2)))
    assert (
        from_files(str(tmp_path / "v.npy"), str(tmp_path / "ids"), None, tmp_path)[1] != fingerprint
    )


def test_everything_that_is_wrong_with_the_files_is_said_at_once(tmp_path):
    (tmp_path / "v.npy").write_bytes(b"not an array")
    np.save(tmp_path / "costs.npy", np.ones(3))
    with pytest.raises(SelectionError) as caught:
        from_files(
            str(tmp_path / "v.npy"), str(tmp_path / "ids"), str(tmp_path / "costs.npy"), tmp_path
        )
    found = [(problem.where, problem.what[:12]) for problem in caught.value.problems]
    assert found == [
        ("vectors", "not an array"), ("ids", "no such file"), ("costs", "not a list o"),
    ]  # fmt: skip
    np.save(tmp_path / "v.npy", np.ones((4, 2)))
    (tmp_path / "ids").write_text("a\nb\n")
    with pytest.raises(SelectionError, match="each of the 4 rows"):
        from_files(str(tmp_path / "v.npy"), str(tmp_path / "ids"), None, tmp_path)


@pytest.mark.parametrize("array", [np.ones(4), np.ones((4, 2), int), np.ones((0, 3)), np.ones(())])
def test_arrays_that_are_no_table_of_vectors(tmp_path, array):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(SelectionError, match="not a table of floating-point vectors"):
        from_files(str(tmp_path / "v.npy"), None, None, tmp_path)
