"""Make encoded sidecars of shards: `python shards/encode.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["encode", *sys.argv[1:]]))
