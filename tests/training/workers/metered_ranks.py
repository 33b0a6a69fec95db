"""Ranks that wait and need memory unequally, and what their meters say together."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed

from headrace.training.throughput import Meter, peak_resident


def batches(rank):
    for _ in range(3):
        time.sleep(0.05 * (1 + rank))
        yield None


torch.distributed.init_process_group("gloo", init_method="env://")
rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
if rank == 1:
    np.ones(200_000_000, dtype=np.uint8)
meter = Meter(torch.device("cpu"), ranks)
for _ in meter.each(batches(rank)):
    torch.distributed.barrier()  # as the sums of a step
    meter.end_step(samples=4, tokens=100, labels=8, pairs=900)
own = {"waited": meter.whole.waited, "resident": peak_resident()}
window = meter.take_window()
own |= {"window": window, "summary": meter.summary()}
(Path(sys.argv[1]) / f"{rank}.json").write_text(json.dumps(own))
torch.distributed.destroy_process_group()
