#!/usr/bin/env bash
# What pre-training brings to two-stage named entities: a small multilingual BERT learns to fill in
# masks on a built corpus and on the text of the task, then both stages start from it, against the
# same network from scratch; five languages, three seeds.
# HEADRACE_DATA names a folder with the corpora of recipes/twelve_languages.yaml and with
# multiconer_v2/<language>_{train,dev}.conll[.gz]. Takes about an hour and a half on two cores; run it again
# and it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
HEADRACE_DATA=$(realpath "${HEADRACE_DATA:?"set it to the folder of the raw corpora"}")
export HEADRACE_DATA
data=data/warm_start
entities=data/multiconer_v2
runs=runs/warm_start
languages=(bn de en hi zh)

mkdir -p "$data" "$runs"
[ -e "$data/key" ] || headrace privacy --make-key "$data/key"
HEADRACE_KEY=$data/key headrace build --recipe recipes/twelve_languages.yaml --output "$data/corpus"

texts=()
for language in "${languages[@]}"; do
    headrace split "$data/corpus/$language" --output "$data/text/$language" \
        --by share 0.98,0.02 --names train,validation
    texts+=("$data/text/$language/train")
    for split in train dev; do
        file=$HEADRACE_DATA/multiconer_v2/${language}_$split.conll
        [ -e "$file" ] || file=$file.gz
        headrace build "$file" --output "$entities/$language/$split" --language "$language" \
            --split-name "$split" --labels multiconer_v2 > /dev/null
    done
    texts+=("$entities/$language/train")
done
headrace tokenizer "${texts[@]}" --output "$data/tokenizer-16k" --vocab-size 16000 --temperature 1

deepspeed --num_gpus 2 launch/train.py --ds_config ds_configs/warm_start_masked_lm.json

# A network this small leaves two ranks waiting for each other: each arm has a core of its own.
export OMP_NUM_THREADS=1
sweep() {
    headrace sweep --ds_config ds_configs/warm_start_two_stage.json --seeds 1,2,3 --launcher "" "$@"
}
sweep --output "$runs/scratch" & scratch=$!
sweep --output "$runs/warm" --set headrace.model.config=null \
    --set "headrace.model.pretrained=$runs/masked_lm/text/all/export" & warm=$!
wait "$scratch"
wait "$warm"
python scripts/warm_start_table.py "$runs" docs/results
