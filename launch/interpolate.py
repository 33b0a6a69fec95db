"""Mix the weights of two exported models: `python launch/interpolate.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["interpolate", *sys.argv[1:]]))
