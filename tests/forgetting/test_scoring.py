"""Which score of a task is the one that forgetting is told from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.errors import UserError
from headrace.forgetting.scoring import _name_of, problems_of_score, score_tasks
from headrace.tasks.causal_lm import CausalLM
from headrace.tasks.masked_lm import MaskedLM
from headrace.tasks.multiple_choice import MultipleChoice


@pytest.mark.parametrize("task", [MaskedLM(), CausalLM()])
def test_more_of_the_score_is_better(task: Any) -> None:
    metrics = dict.fromkeys(task.scores, 1.0)
    assert _name_of(metrics, task, None) == "token_accuracy"
    (problem,) = problems_of_score(task, "perplexity", "score")
    assert problem.remedy == "Use token_accuracy"
    assert not problems_of_score(task, "token_accuracy", "score")
    assert not problems_of_score(MultipleChoice(), "accuracy", "score")


def test_a_score_of_which_less_is_better_is_refused(tmp_path: Path) -> None:
    class Model:
        task = MaskedLM()

    model: Any = Model()
    with pytest.raises(UserError, match="less of this score is better"):
        score_tasks(model, {}, cache_dir=tmp_path, batch_size=1, score_name="perplexity")
