#!/usr/bin/env bash
# Two-stage training against single-language training on MultiCoNER II, five languages, three seeds,
# two CPU ranks. HEADRACE_DATA names a folder with multiconer_v2/<language>_{train,dev}.conll[.gz].
# Takes about an hour on two cores; run it again and it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
raw=${HEADRACE_DATA:?"set HEADRACE_DATA to the folder that holds multiconer_v2/"}/multiconer_v2
shards=data/multiconer_v2
runs=runs/multiconer_small
languages=(bn de en hi zh)

train=() evaluate=()
for language in "${languages[@]}"; do
    for split in train dev; do
        file=$raw/${language}_$split.conll
        [ -e "$file" ] || file=$file.gz
        headrace build "$file" --output "$shards/$language/$split" --language "$language" \
            --split-name "$split" --labels multiconer_v2 > /dev/null
        echo "shards: $shards/$language/$split"
    done
    train+=("$shards/$language/train")
    evaluate+=("$language=$shards/$language/dev")
done
headrace tokenizer "${train[@]}" --output "$shards/tokenizer-16k" --vocab-size 16000 --temperature 1

mkdir -p "$runs"
headrace lexicon --train "${train[@]}" --evaluate "${evaluate[@]}" --labels multiconer_v2 \
    --json "$runs/lexicon_all.json"
headrace lexicon --train "${train[@]}" --evaluate "${evaluate[@]}" --labels multiconer_v2 \
    --per-language --json "$runs/lexicon_own.json"
for method in two_stage baseline; do
    headrace sweep --ds_config "ds_configs/multiconer_${method}_small.json" --seeds 1,2,3 \
        --output "$runs/$method" --ranks 2
done
python scripts/multiconer_small_table.py "$runs" docs/results --readme README.md
