"""Search learning rates by layer group: `python launch/search.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["search", *sys.argv[1:]]))
