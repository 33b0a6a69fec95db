"""What the ranks of a run are doing: `python launch/status.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["status", *sys.argv[1:]]))
