"""Find and replace private information in a text: `python shards/privacy.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["privacy", *sys.argv[1:]]))
