#!/usr/bin/env bash
# Write constraints.txt: exact versions for every supported Python, without the CUDA packages that
# torch brings along by itself where they are wanted.
set -euo pipefail
python=$1
torch=$(sed -n 's/^torch==//p' constraints.txt)
"$python" -m pip install --quiet uv
exact=$(mktemp)
trap 'rm -f "$exact"' EXIT
"$python" -m uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.10 \
    --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
    --constraint <(echo "torch==$torch") --output-file "$exact"
{
    echo "# Exact versions of everything that development and continuous integration install."
    echo "# Made by 'make lock'; the package itself accepts the ranges in pyproject.toml."
    grep --extended-regexp --invert-match '^(nvidia-|cuda-|triton|torch==)' "$exact"
    echo "torch==$torch"
} > constraints.txt
