#!/usr/bin/env bash
# Set up the environments of the loaders that `headrace benchmark stream --peers FOLDER` measures
# beside Headrace's: FOLDER/common for all but Mosaic Streaming, FOLDER/mosaic for that one, which
# needs older versions of numpy and transformers. All versions are exact (stream_peers/*.txt, made
# for Python 3.11) and torch is the build that the calling environment has; pip must be able to
# find it, for a build without CUDA with
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu scripts/stream_peers.sh FOLDER
# Run it again and it sets up what is missing. A loader that is not there afterwards is named as
# absent by the benchmark, and the others are measured.
set -uo pipefail
folder=${1:?usage: scripts/stream_peers.sh FOLDER}
pins=$(cd "$(dirname "$0")/stream_peers" && pwd)
python=${PYTHON:-python3}
torch=$("$python" -c 'from importlib.metadata import version; print(version("torch"))') || exit 1
mkdir -p "$folder"

set_up() { # NAME: an environment with torch and what NAME.txt pins, whole or not at all
    local environment=$folder/$1
    [ -e "$environment/complete" ] && return
    rm -rf "$environment"
    "$python" -m venv "$environment" &&
        "$environment/bin/pip" install --quiet "torch==$torch" --constraint "$pins/$1.txt" &&
        "$environment/bin/pip" install --quiet --no-deps --requirement "$pins/$1.txt" &&
        { [ "$1" != mosaic ] || stub_torchvision "$environment"; } &&
        touch "$environment/complete"
}

# Mosaic Streaming imports torchvision for its image data sets, and the index's torchvision is made
# for another build of torch than a CPU one: importing it fails. Text needs neither of the two names.
stub_torchvision() {
    local site
    site=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || return 1
    mkdir -p "$site/torchvision/transforms"
    echo '"""Stands in for torchvision: names that Mosaic Streaming imports and text does not use."""' \
        | tee "$site/torchvision/__init__.py" > "$site/torchvision/transforms/__init__.py"
    echo 'class VisionDataset: ...' > "$site/torchvision/datasets.py"
    echo 'def to_tensor(image): raise NotImplementedError("torchvision is not installed here")' \
        > "$site/torchvision/transforms/functional.py"
}

failed=0
for name in common mosaic; do
    if set_up "$name"; then
        echo "ready: $folder/$name"
    else
        echo "could not be set up: $folder/$name" >&2
        rm -rf "${folder:?}/$name"
        failed=1
    fi
done
exit "$failed"
