"""Measure a part side by side with others: `python launch/benchmark.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
