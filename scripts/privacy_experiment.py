"""Measure what is found of private information, beside presidio, and write it down.

``HEADRACE_DATA=DIR python scripts/privacy_experiment.py --peer PYTHON`` writes
``docs/results/privacy.json`` and the tables of ``docs/privacy.md``.  PYTHON is that of an
environment with presidio-analyzer, which needs no model:
``python -m venv peers && peers/bin/pip install presidio-analyzer==2.2.366``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

from headrace.benchmarks.privacy import measure

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="Python of an environment with presidio-analyzer")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results" / "privacy.json")
    arguments = parser.parse_args()
    result = {
        **measure(Path(os.environ["HEADRACE_DATA"]), arguments.peer, ROOT),
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "environment": {"python": platform.python_version(), "machine": platform.machine()},
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
