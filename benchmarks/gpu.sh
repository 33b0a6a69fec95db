#!/usr/bin/env bash
# What a GPU does, in one call of under ten minutes: the training loop beside a bare PyTorch loop
# and the Hugging Face Trainer (bf16 where the GPU has it), then masked-language modelling of a BERT
# of 110 million parameters for its tokens a second, model FLOPs utilisation and memory. A table of
# both comes last. usage: benchmarks/gpu.sh [FOLDER]   (default: runs/gpu)
set -euo pipefail
folder=$(realpath -m "${1:-runs/gpu}")
cd "$(dirname "$0")/.."
python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    { echo "gpu.sh: PyTorch sees no GPU here" >&2; exit 2; }
mkdir -p "$folder"

headrace benchmark training --rounds 3 --json "$folder/training.json"

headrace sample --output "$folder/conll" --languages en,hi --train 20000 --validation 200
for language in en hi; do
    for split in train dev; do
        headrace build "$folder/conll/${language}_$split.conll" \
            --output "$folder/text/$language/$split" --language "$language" > /dev/null
    done
done
headrace tokenizer "$folder"/text/{en,hi}/train --output "$folder/tokenizer" --vocab-size 4000
network='{"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512}'
settings=(
    "headrace.output=$folder/masked_lm" "headrace.model.tokenizer=$folder/tokenizer"
    "headrace.model.config=$network"
    "headrace.stages.0.epochs=1" "headrace.stages.0.max_steps=150"
)
for language in en hi; do
    settings+=("headrace.data.train.$language=$folder/text/$language/train"
        "headrace.data.validation.$language=$folder/text/$language/dev")
done
headrace train --ds_config ds_configs/masked_lm_small.json "${settings[@]/#/--set=}"

python - "$folder" <<'END'
import json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
compared = json.loads((folder / "training.json").read_text())
run = json.loads((folder / "masked_lm" / "results.json").read_text())
print(f"\n{run['environment']['device']}, torch {run['environment']['torch']}")
for row in compared["rows"]:
    print(f"{row['group']:<28}{row['name']:<28}{row['median']:9.2f} ms a step"
          f"{row['tokens_per_s']:12,.0f} real tokens/s")
found = run["stages"][0]["throughput"]
for name in ("tokens_per_s", "mfu", "memory_allocated", "memory_reserved", "data_wait_share"):
    print(f"BERT, 12 layers of 768: {name:<20}{found[name] if found[name] is not None else '-'}")
END
