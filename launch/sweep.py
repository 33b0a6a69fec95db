"""Run a grid of settings and seeds: `python launch/sweep.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
