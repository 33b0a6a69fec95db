"""Train the stages of a run config: ``deepspeed launch/train.py --ds_config X.json``."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
