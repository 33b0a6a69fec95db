"""A worker process of a study with a closed form: FOLDER LOG SECONDS [JSON of changes].

Writes a line to LOG for every trial that this process knows to be finished, so that a killed
process cannot have promised more than the journal holds.
"""

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from analytic import open_analytic, value_of

from headrace.search import worker
from headrace.search.worker import work

folder, log, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
changes = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
study = open_analytic(folder, **changes)
tell = worker.end


def objective(claim, epochs):
    (claim.folder / "started").write_text(str(os.getpid()))
    time.sleep(seconds)
    return value_of(claim.rates, epochs)


def end(study, claim, outcome):
    kept = tell(study, claim, outcome)
    if kept:
        facts = {"part": claim.part.name, "number": claim.trial.number, "value": outcome.value}
        os.write(descriptor, (json.dumps(facts) + "\n").encode())
    return kept


worker.end = end
work(study, objective)
