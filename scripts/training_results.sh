#!/usr/bin/env bash
# Measure the training loop in full, on a machine with nothing else to do, and write
# docs/results/training.json and the page that is rendered from it. HEADRACE_DATA, if it is set,
# gives real sentences.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
headrace benchmark training --json docs/results/training.json
python scripts/training_table.py docs/results/training.json
