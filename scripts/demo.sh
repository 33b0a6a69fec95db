#!/usr/bin/env bash
# The whole path on the built-in sample corpus: CoNLL files of twelve languages -> shards ->
# tokenizer -> two-stage training on two CPU ranks -> result table and report.html.
# Run it again and it goes on where it stopped; `rm -r demo` starts afresh.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=demo
languages=(bn de en es fa fr hi it pt sv uk zh)

if [ ! -e "$folder/conll/zh_dev.conll" ]; then
    headrace sample --output "$folder/conll" --train 400 --validation 100 --noisy-share 0.3 --seed 17
fi
for language in "${languages[@]}"; do
    for split in train dev; do
        headrace build "$folder/conll/${language}_$split.conll" --output "$folder/$language/$split" \
            --language "$language" --split-name "$split" --labels multiconer_v2 > /dev/null
        echo "shards: $folder/$language/$split"
    done
done
headrace preview "$folder/en/train" -n 2
headrace tokenizer "$folder"/*/train --output "$folder/tokenizer" --vocab-size 6000
deepspeed --num_gpus 2 launch/train.py --ds_config ds_configs/demo.json

echo "open $folder/run/report.html in a browser"
