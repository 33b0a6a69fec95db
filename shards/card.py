"""Write the card of a corpus, or check it: `python shards/card.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["card", *sys.argv[1:]]))
