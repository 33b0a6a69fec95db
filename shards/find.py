"""Find documents of a corpus: `python shards/find.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["find", *sys.argv[1:]]))
