"""What each stage of a run will draw, and when: `python shards/plan.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["plan", *sys.argv[1:]]))
