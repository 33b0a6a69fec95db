"""Score models on shards: `python launch/evaluate.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
