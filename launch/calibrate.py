"""Fit the probabilities of exported models: `python launch/calibrate.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["calibrate", *sys.argv[1:]]))
