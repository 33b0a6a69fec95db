"""One rank that trains a few steps and reports what its process took, as one JSON line.

What is measured is the largest resident set of the process, above that of the same process when
it has trained a tiny network in the same way: the libraries, the code that is loaded at the first
step, and the threads of the process group are in both.
"""

import ctypes
import gc
import json
import re
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import deepspeed_of, network_of, task_of

from headrace.config import HeadraceConfig, RunConfig
from headrace.config.learning_rates import ScheduleConfig
from headrace.training.distributed import World, process_group
from headrace.training.engine import open_engine
from headrace.training.param_groups import ParameterGroups, Row, Settings
from headrace.training.precision import choose_precision

STEPS = 3
"""The optimizer's states are made in the first; ZeRO 3 fetches ahead from the second on."""


def resident(field: str) -> int:
    """``VmRSS`` or, since the last reset, ``VmHWM`` of this process, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", text)[1])


def start_again() -> None:
    """Give freed memory back, and let the largest resident set begin at what is left."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def groups_of(network: torch.nn.Module) -> ParameterGroups:
    """Two groups, as without groups in a config: with weight decay and without."""
    rows = []
    for name, wanted, decay in (("decay", True, 0.01), ("no decay", False, 0.0)):
        own = {key: one for key, one in network.named_parameters() if (one.dim() > 1) == wanted}
        settings = Settings(1e-4, decay, ScheduleConfig())
        size = sum(parameter.numel() for parameter in own.values())
        rows.append(Row(name, None, tuple(own), size, settings))
    return ParameterGroups(tuple(rows))


def batch_of(network: torch.nn.Module, micro: int, length: int) -> dict[str, torch.Tensor]:
    """A micro-batch in which one row is shorter than the others."""
    ids = torch.randint(5, network.config.vocab_size, (micro, length))
    mask = torch.ones_like(ids)
    mask[-1, -3:] = 0
    labels = torch.randint(0, 2, (micro, length))
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train(spec: dict, world: World, *, tiny: bool) -> None:
    """Some steps, as the loop of a run takes them."""
    torch.manual_seed(0)
    task = task_of(spec["network"])
    network = network_of(spec, task, tiny=tiny)
    headrace = HeadraceConfig.model_construct(model=None)
    config = RunConfig(deepspeed_of(spec), headrace, "measured", Path("measured"))
    precision = choose_precision("config", config.deepspeed, world.device)
    groups = groups_of(network)
    with open_engine(network, groups, config, world, precision) as engine:
        del network
        engine.train()
        for _ in range(STEPS):
            for _ in range(spec.get("accumulation", 1)):
                length = min(spec["length"], 16) if tiny else spec["length"]
                batch = batch_of(engine.module, spec["micro"], length)
                if spec["network"] == "bert":  # the share that is masked
                    chosen = torch.rand(batch["labels"].shape) < task.masked_share
                    batch["labels"] = torch.where(chosen, batch["labels"], -100)
                loss, _ = task.loss_sum(engine, batch, training=True)
                engine.backward(loss / batch["input_ids"].numel())
                engine.step()


def main() -> None:
    spec = json.loads(sys.argv[1])
    with process_group() as world:
        train(spec, world, tiny=True)
        start_again()
        base = resident("VmRSS")
        train(spec, world, tiny=False)
        peak = resident("VmHWM")
        torch.distributed.barrier()
    print(json.dumps({"rank": world.rank, "base": base, "peak": peak - base}), flush=True)


if __name__ == "__main__":
    main()
