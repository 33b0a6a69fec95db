"""Take documents out of a corpus and all that was made of it: `python shards/remove.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["remove", *sys.argv[1:]]))
