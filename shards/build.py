"""Build a source of shards from corpus files: `python shards/build.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["build", *sys.argv[1:]]))
