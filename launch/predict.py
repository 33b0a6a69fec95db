"""Tag sentences with a trained model: `python launch/predict.py --help`."""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
