"""Results page and tables of a run: `python launch/report.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
