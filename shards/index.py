"""Index existing WebDataset tars: `python shards/index.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["index", *sys.argv[1:]]))
