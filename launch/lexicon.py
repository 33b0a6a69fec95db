"""Score the lexicon baseline of named entity recognition: `python launch/lexicon.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["lexicon", *sys.argv[1:]]))
