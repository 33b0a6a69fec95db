"""Train a SentencePiece tokenizer from shards: `python shards/tokenizer.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["tokenizer", *sys.argv[1:]]))
