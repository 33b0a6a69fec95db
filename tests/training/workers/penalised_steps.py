"""Takes some steps with a penalty, for each of a list of jobs in a JSON file, in one launch.

A job with ``stop_after`` is a whole run, as for ``several_runs.py``.  Any other is ``{"config":
path, "held": safetensors or null, "weight": number, "steps": number, "output": path}``; ``held``
has an ``anchor.NAME`` and an ``importance.NAME`` for each parameter.
The output has the weights after the steps in fp32, as the optimizer has them, and what was logged.
"""

import gc
import json
import sys
from pathlib import Path

import several_runs
from deepspeed.accelerator import get_accelerator
from safetensors.torch import load_file, save_file

from headrace.config import load_run_config
from headrace.training.callbacks import Callbacks
from headrace.training.checkpoints import Checkpoints
from headrace.training.data import BatchMaker, encode_data, open_data, plan_batches
from headrace.training.distributed import process_group
from headrace.training.engine import deepspeed_section, full_precision_state, open_engine
from headrace.training.logs import quiet_libraries
from headrace.training.loop import BranchTrainer
from headrace.training.model import build_model
from headrace.training.param_groups import groups_of_branch
from headrace.training.penalty import Held, Penalty
from headrace.training.precision import choose_precision
from headrace.training.signals import StopFlag
from headrace.training.stages import expand_stages


def held_of(path, weight):
    """What the penalty holds, from a file."""
    tensors = load_file(path)

    def under(prefix):
        return {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }

    return Held(weight, under("anchor."), under("importance.") or None)


def run(job, world):
    config = load_run_config(job["config"])
    data = encode_data(open_data(config), config)
    branch = expand_stages(config)[0]
    precision = choose_precision("config", config.deepspeed, world.device)
    section = deepspeed_section(config, world, precision)
    plan = plan_batches(config, branch, data)
    batches = BatchMaker(
        data, plan, branch, rank=world.rank, world_size=world.size,
        micro_batch_size=section["train_micro_batch_size_per_gpu"],
        accumulation=section["gradient_accumulation_steps"],
    )  # fmt: skip
    opened = data.opened
    model = build_model(config.headrace.model, opened.task, opened.tokenizer, seed=11)
    groups = groups_of_branch(model, config, branch)
    steps, log = job["steps"], []
    with open_engine(model, groups, config, world, precision) as engine:
        held = job["held"] and held_of(job["held"], job["weight"])
        penalty = Penalty(engine, held) if held else None
        trainer = BranchTrainer(
            engine=engine, groups=groups, branch=branch, task=opened.task, world=world,
            seed=config.headrace.seed, plan=plan, batches=batches,
            total_steps=steps, checkpoints=Checkpoints(config.output, world),
            log_every=1,
            callbacks=Callbacks([]), stop_flag=StopFlag(),
            penalty=penalty,
        )  # fmt: skip
        for step in range(steps):
            groups.set_learning_rates(engine.optimizer, step, steps)
            batch = batches.make(step)
            sums, _ = trainer.train_step(batch)
            norm = engine.get_global_grad_norm()
            log.append(
                {
                    "loss": sums.loss,
                    "penalty": penalty.value.item() if penalty else 0.0,
                    "norm": None if norm is None else float(norm),
                    "skipped": engine.skipped_steps,
                }
            )
        state = full_precision_state(engine)
    output = Path(job["output"])
    (output.with_name(f"{output.name}-rank{world.rank}.json")).write_text(json.dumps(log))
    if world.is_main:
        save_file(state, output.with_name(f"{output.name}.safetensors"))


if __name__ == "__main__":
    quiet_libraries()
    # DeepSpeed refuses fp16 on CPUs that compute it slowly; what is tested is how it is scaled.
    get_accelerator().is_fp16_supported = lambda: True
    with process_group() as world:
        for job in json.loads(Path(sys.argv[-1]).read_text()):
            (several_runs.run if "stop_after" in job else run)(job, world)
            gc.collect()
