"""A rank that does at each start what a plan says: `as_planned.py FOLDER PLAN`.

PLAN has a word a start, and after a slash another plan for the next task of an array:

wait     wait for USR1, leave a file as progress, and end with exit code 75
idle     end with exit code 75 at once, without progress
sleep    wait for ever
fault, mistake, done   end with exit code 1, 2, 0
broken   the last rank raises an error, the others end with 1 when it is gone
"""

import os
import signal
import sys
import time
from pathlib import Path

from headrace.slurm.records import job_name, read_record

folder = Path(sys.argv[1])
plans = sys.argv[2].split("/")
plan = plans[int(os.environ.get("SLURM_ARRAY_TASK_ID", "1")) - 1].split(",")
name = job_name(os.environ)
start = len(read_record(folder, name).starts)
rank = os.environ["SLURM_PROCID"]
word = plan[start - 1]
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(True))
print(f"rank {rank} on {os.uname().nodename}, start {start}: {word}", flush=True)
(folder / "slurm" / f"{name}-start-{start}-rank-{rank}").touch()  # not progress
while word == "sleep" or (word == "wait" and not asked):
    time.sleep(0.05)
if word == "wait" and rank == "0":
    (folder / f"{name}-saved-{start}").touch()
if word == "broken":
    gone = folder / "slurm" / f"{name}-gone-{start}"
    if int(rank) == int(os.environ["SLURM_STEP_NUM_TASKS"]) - 1:
        print("\r 10% of a bar\r 20% of a bar", file=sys.stderr)
        gone.touch()
        raise ValueError(f"the disk is broken at start {start}")
    while not gone.exists():
        time.sleep(0.05)
    time.sleep(1)
    print("headrace: another rank is gone", file=sys.stderr)
sys.exit({"wait": 75, "idle": 75, "fault": 1, "broken": 1, "mistake": 2, "done": 0}[word])
