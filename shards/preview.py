"""Print samples of a source: `python shards/preview.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["preview", *sys.argv[1:]]))
