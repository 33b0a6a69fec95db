"""One of two ranks, each of which could not read another shard; writes what they agree on.

Arguments: a run config, and the file to write.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch.distributed

from headrace.config import load_run_config
from headrace.training.data import encode_data, open_data
from headrace.training.distributed import World
from headrace.training.quarantine import agree_on_quarantine, left_out_of

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
config = load_run_config(Path(sys.argv[1]))
data = encode_data(open_data(config), config)
own = {**data.train, "en": data.train["en"].leaving_out([rank])}
world = World(rank, 2, torch.device("cpu"))
agreed = agree_on_quarantine(config, replace(data, train=own), None, world)
torch.distributed.destroy_process_group()
lengths = [shard.lengths.tolist() for shard in agreed.train["en"].shards]
Path(sys.argv[2]).write_text(json.dumps([left_out_of(agreed.train), lengths]))
