"""One of two ranks of a process group; both die by SIGKILL in it, after a collective."""

import os
import signal

import torch
import torch.distributed

from headrace.training.distributed import process_group

with process_group() as world:
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    assert total.item() == 2, total
    torch.distributed.barrier()
    os.kill(os.getpid(), signal.SIGKILL)
