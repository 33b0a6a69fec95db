"""Write the built-in sample corpus: `python shards/sample.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["sample", *sys.argv[1:]]))
