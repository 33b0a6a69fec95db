#!/usr/bin/env bash
# Measure the stream beside its peers in full, on a machine with nothing else to do, and write
# docs/results/stream.json and the page that is rendered from it. FOLDER holds the peers'
# environments, which are set up where they are missing.
set -euo pipefail
folder=$(realpath -m "${1:?usage: scripts/stream_results.sh FOLDER}")
cd "$(dirname "$0")/.."
scripts/stream_peers.sh "$folder" || echo "going on without the peers that are missing" >&2
headrace benchmark stream --peers "$folder" --json docs/results/stream.json
python scripts/stream_table.py docs/results/stream.json
