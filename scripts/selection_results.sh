#!/usr/bin/env bash
# Measure selection beside its peers in full, on a machine with nothing else to do, and write
# docs/results/selection.json and the page that is rendered from it. FOLDER holds the peers'
# environments, which are set up where they are missing. HEADRACE_DATA, if it is set, adds real
# sentences.
set -euo pipefail
folder=$(realpath -m "${1:?usage: scripts/selection_results.sh FOLDER}")
cd "$(dirname "$0")/.."
scripts/selection_peers.sh "$folder" || echo "going on without the peers that are missing" >&2
headrace benchmark selection --peers "$folder" --json docs/results/selection.json
python scripts/selection_table.py docs/results/selection.json
