"""Compare methods on sequences of tasks: `python launch/forgetting.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["forgetting", *sys.argv[1:]]))
