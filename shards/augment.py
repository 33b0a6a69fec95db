"""Write a source with copies of some of its samples: `python shards/augment.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["augment", *sys.argv[1:]]))
