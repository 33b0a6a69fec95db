"""Errors that are passed on under other names."""

from dataclasses import replace

from headrace.errors import MissingExtraError, Problem, SelectionError


def test_a_renamed_error_is_as_joint_as_it_was_and_of_its_kind():
    error = SelectionError(Problem("out of range", "rows", "0"))
    error.joint = True
    other = error.renamed(lambda problem: replace(problem, where="--rows"))
    assert type(other) is SelectionError
    assert other.joint
    assert str(other) == "--rows: out of range (value: 0)"
    missing = MissingExtraError("faiss", "faiss", "a neighbour graph")
    again = missing.renamed(lambda problem: problem)
    assert str(again) == str(missing)
    assert not again.joint
