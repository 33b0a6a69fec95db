"""Look at the nodes of a job before it works on them: `python launch/check.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))
