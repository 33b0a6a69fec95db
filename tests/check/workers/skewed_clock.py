"""A rank whose clock is wrong: `skewed_clock.py SECONDS FOLDER`; `never` as SECONDS: it ends."""

import json
import os
import sys
import time
from pathlib import Path

from headrace.check.report import data_of
from headrace.check.run import Request, check


def now() -> float:
    if sys.argv[1] == "never":
        os._exit(9)
    return time.time() + float(sys.argv[1])


outcome = check(Request(Path(sys.argv[2]), seconds=20), now=now)
if outcome.report is not None:
    print(json.dumps(data_of(outcome.report)))
sys.exit(outcome.code)
