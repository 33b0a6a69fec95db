"""Which steps of a run have seen removed documents: `python launch/seen.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["seen", *sys.argv[1:]]))
