#!/usr/bin/env bash
# Set up the environments of the libraries that `headrace benchmark selection --peers FOLDER`
# measures beside Headrace: FOLDER/submodlib-py and FOLDER/apricot-select, with exact versions.
# Run it again and it sets up what is missing. A library that is not there afterwards is named as
# absent by the benchmark, and the others are measured.
set -uo pipefail
folder=${1:?usage: scripts/selection_peers.sh FOLDER}
python=${PYTHON:-python3}
mkdir -p "$folder"
failed=0
# scikit-learn: apricot imports it without saying that it needs it
for pins in submodlib-py==0.0.3 "apricot-select==0.6.1 scikit-learn==1.9.1"; do
    environment=$folder/${pins%%==*}
    read -ra packages <<< "$pins"
    [ -e "$environment/complete" ] && continue
    rm -rf "$environment"
    if "$python" -m venv "$environment" &&
        "$environment/bin/pip" install --quiet "${packages[@]}" && touch "$environment/complete"; then
        echo "ready: $environment"
    else
        echo "could not be set up: $environment" >&2
        rm -rf "$environment"
        failed=1
    fi
done
exit "$failed"
