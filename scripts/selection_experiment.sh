#!/usr/bin/env bash
# The paper's experiment on the questions of CODAH, three seeds, two trainings at a time, and its
# page and plot. HEADRACE_DATA names a folder with codah/codah.jsonl. Takes about an hour of processor
# time, half of that on two free cores; run it again and it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
corpus=${HEADRACE_DATA:?"set HEADRACE_DATA to the folder that holds codah/"}/codah/codah.jsonl
python scripts/selection_experiment.py --corpus "$corpus" --output runs/selection_experiment \
    --json docs/results/selection_experiment.json
python scripts/selection_experiment_table.py docs/results/selection_experiment.json \
    --plot docs/images/selection-experiment.svg
