"""Choose samples to train on: `python launch/select_data.py --help`.

Not `select.py`: that would hide the standard library's module from the scripts beside it.
"""

import sys

from headrace.cli import main

if __name__ == "__main__":
    sys.exit(main(["select", *sys.argv[1:]]))
