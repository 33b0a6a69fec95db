"""Split a source into parts: `python shards/split.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["split", *sys.argv[1:]]))
