"""Sequences that are trained for real, in the process of the tests."""

import json
import shutil

import numpy as np
import pytest

from headrace.forgetting.run_document import Treatment
from headrace.forgetting.sequence import MATRIX_FILE, run_sequence


@pytest.fixture
def run(small_tasks, group, tmp_path):
    """Runs a sequence with defaults that a test can change."""

    def call(name="one", order=("en", "hi"), base=small_tasks.base, tasks=small_tasks.tasks, **changes):
        settings = {"overrides": {}, "seed": 1, "splits": "test", "group": group, **changes}
        return run_sequence(base, tasks, order, tmp_path / name, **settings)

    return call


def test_a_pair(run, tmp_path):
    matrix = run()
    print(matrix)
