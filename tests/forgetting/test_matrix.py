"""Measures of R against the formulas of the papers, written out by hand."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headrace.forgetting.matrix import MEASURES, Matrix, measure_weights

PAIR = Matrix.of(("a", "b"), [[0.9, 0.3], [0.7, 0.8]], start=[0.5, 0.25])
THREE = Matrix.of(
    ("a", "b", "c"), [[0.8, 0.4, 0.1], [0.9, 0.7, 0.2], [0.6, 0.5, 0.9]], start=[0.3, 0.3, 0.3]
)


def test_the_measures_of_a_pair():
    assert PAIR.measures() == pytest.approx(
        {
            "p_o": 0.7,
            "p_s": 0.8,
            "p": 1.5,
            "average": 0.75,
            "backward_transfer": -0.2,
            "forward_transfer": 0.05,
            "forgetting": 0.2,
        }
    )


def test_the_measures_of_three_tasks():
    # forgetting takes the best score before the last stage: that of a is after the second task
    assert THREE.measures() == pytest.approx(
        {
            "p_o": (0.6 + 0.5) / 2,
            "p_s": 0.9,
            "p": 0.9 + (0.6 + 0.5) / 2,
            "average": 2.0 / 3,
            "backward_transfer": ((0.6 - 0.8) + (0.5 - 0.7)) / 2,
            "forward_transfer": ((0.4 - 0.3) + (0.2 - 0.3)) / 2,
            "forgetting": ((0.9 - 0.6) + (0.7 - 0.5)) / 2,
        }
    )


def test_what_is_not_defined_is_not_a_number():
    alone = Matrix.of(("a",), [[0.9]], start=[0.1])
    assert {name for name, value in alone.measures().items() if value is not None} == {
        "p_s", "average",
    }  # fmt: skip
    joint = Matrix.of(("a", "b"), [[0.9, 0.8]], start=[0.1, 0.1])
    assert joint.is_joint
    assert joint.measure("p") == pytest.approx(1.7)
    for name in ("backward_transfer", "forward_transfer", "forgetting"):
        assert joint.measure(name) is None
    assert Matrix.of(("a", "b"), [[0.9, 0.3], [0.7, 0.8]]).measure("forward_transfer") is None


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (0, 0), (2, 1)])
def test_a_shape_of_no_sequence_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        Matrix.of([f"task {number}" for number in range(shape[1])], np.zeros(shape))


@given(st.integers(2, 5).flatmap(lambda n: arrays(float, (n, n), elements=st.floats(0, 1))))
def test_forgetting_is_bounded_by_backward_transfer_and_the_sum_by_its_parts(values):
    matrix = Matrix.of([f"task {number}" for number in range(len(values))], values)
    found = matrix.measures()
    assert found["forgetting"] >= -found["backward_transfer"] - 1e-12
    assert found["p"] == pytest.approx(found["p_o"] + found["p_s"])
    tasks = len(values)
    assert found["average"] * tasks == pytest.approx(found["p_o"] * (tasks - 1) + found["p_s"])
    if tasks == 2:
        assert found["forgetting"] == pytest.approx(-found["backward_transfer"])


@given(st.integers(1, 4), st.data())
def test_a_matrix_survives_its_file(tasks, data):
    fractions = st.floats(0, 1)
    values = data.draw(arrays(float, (tasks, tasks), elements=fractions))
    answers = tuple(
        tuple(
            data.draw(st.none() | arrays(bool, st.integers(0, 9))) for _ in range(tasks)
        )
        for _ in range(tasks)
    )  # fmt: skip
    start = data.draw(st.none() | arrays(float, tasks, elements=fractions))
    matrix = Matrix(tuple(f"task {n}" for n in range(tasks)), values, start, answers)
    again = Matrix.from_json(json.loads(json.dumps(matrix.as_json())))
    assert again.order == matrix.order
    assert np.array_equal(again.values, values)
    assert (again.start is None) == (start is None)
    assert start is None or (again.start == start).all()
    for row, row_again in zip(answers, again.answers, strict=True):
        for part, part_again in zip(row, row_again, strict=True):
            assert (part is None) == (part_again is None)
            assert part is None or np.array_equal(part, part_again)


@pytest.mark.parametrize("name", MEASURES)
def test_weights_give_the_measure(name):
    weights = measure_weights(name, 3, 3)
    if name == "forgetting":
        assert weights is None
        return
    value = (weights * THREE.values).sum() - (0.3 if name == "forward_transfer" else 0)
    assert value == pytest.approx(THREE.measure(name))
