"""Read every byte of sources and list all problems: `python shards/verify.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))
