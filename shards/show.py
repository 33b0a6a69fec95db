"""Print documents of a corpus: `python shards/show.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["show", *sys.argv[1:]]))
