#!/usr/bin/env bash
# Set up the environment of the library that `headrace benchmark build --peers FOLDER` measures
# beside Headrace: FOLDER/datatrove, with exact versions. It takes about 450 MB and downloads no
# models: the benchmark trains one for the identification of languages. Run it again and it sets up
# what is missing. Without it the benchmark measures Headrace alone.
set -uo pipefail
folder=${1:?usage: scripts/build_peers.sh FOLDER}
python=${PYTHON:-python3}
environment=$folder/datatrove
[ -e "$environment/complete" ] && exit 0
rm -rf "$environment"
mkdir -p "$folder"
# what its reader, tokenizer, language filter and formatters import; tokenizers: imported with MinHash
if "$python" -m venv "$environment" &&
    "$environment/bin/pip" install --quiet datatrove==0.10.1 spacy==3.8.18 ftfy==6.3.1 \
        fasttext-numpy2-wheel==0.9.2 fasteners==0.20 orjson==3.13.0 regex==2026.11.15 \
        xxhash==3.8.2 zstandard==0.25.0 faust-cchardet==3.2.0 tokenizers==0.23.3 &&
    touch "$environment/complete"; then
    echo "ready: $environment"
else
    echo "could not be set up: $environment" >&2
    rm -rf "$environment"
    exit 1
fi
