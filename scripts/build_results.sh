#!/usr/bin/env bash
# Measure the corpus build beside datatrove in full, on a machine with nothing else to do, and write
# docs/results/build.json and the page that is rendered from it. FOLDER holds the peer's
# environment, which is set up where it is missing. HEADRACE_DATA, if it is set, gives real
# documents and the lists of near-duplicates.
set -euo pipefail
folder=$(realpath -m "${1:?usage: scripts/build_results.sh FOLDER}")
cd "$(dirname "$0")/.."
scripts/build_peers.sh "$folder" || echo "going on without the peer" >&2
headrace benchmark build --peers "$folder" --json docs/results/build.json
python scripts/build_table.py docs/results/build.json
