"""One epoch of the Hugging Face Trainer on the same sentences."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from datasets import Dataset  # type: ignore[import-untyped,import-not-found,unused-ignore]
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from headrace.benchmarks.training_loops import Run
from headrace.benchmarks.training_setup import (
    LEARNING_RATE,
    LOG_EVERY,
    MAX_GRADIENT_NORM,
    WARMUP_RATIO,
    WEIGHT_DECAY,
    Setup,
)
from headrace.tasks.masking import MASKED_SHARE

_LAUNCHER_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


class StepClock(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Takes the time from the end of the first step to the end of the last."""

    def __init__(self) -> None:
        self.steps = 0
        self.started = (0.0, 0.0)
        self.ended = (0.0, 0.0)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Take the time."""
        self.steps += 1
        self.ended = (time.perf_counter(), time.process_time())
        if self.steps == 1:
            self.started = self.ended


class CountingCollator:
    """The usual collator of the task, with the tokens of each batch counted."""

    def __init__(self, setup: Setup) -> None:
        tokenizer = setup.data.opened.tokenizer
        if setup.settings.task == "masked_lm":
            self.collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED_SHARE)
        else:
            self.collate = DataCollatorForTokenClassification(tokenizer)
        self.real_tokens: list[int] = []
        self.computed_tokens = 0

    def __call__(self, samples: list[dict[str, Any]]) -> Any:
        """Return the padded batch of these samples."""
        self.real_tokens.append(sum(len(sample["input_ids"]) for sample in samples))
        batch = self.collate(samples)
        self.computed_tokens += batch["input_ids"].numel()
        return batch


def trainer_run(setup: Setup, numbers: Iterator[int], strategy: str) -> Run:
    """Train for one epoch with the Trainer.

    Args:
        setup: sentences and network.
        numbers: gives the run folder its number.
        strategy: ``train_sampling_strategy``: ``random`` or ``group_by_length``.
    """
    output = setup.folder / "runs" / f"trainer-{next(numbers)}"
    # In one process the Trainer would take the launcher's variables for a distributed run, and
    # wrap the network for one: slower, and not what anybody runs on one device.
    outside = {name: value for name, value in os.environ.items() if name not in _LAUNCHER_NAMES}
    outside["TENSORBOARD_LOGGING_DIR"] = str(output / "tensorboard")
    if setup.world.size > 1:
        outside = {**os.environ, **outside}
    with mock.patch.dict(os.environ, outside, clear=True):
        return _run(setup, str(output), strategy)


def _run(setup: Setup, output: str, strategy: str) -> Run:
    clock = StepClock()
    collator = CountingCollator(setup)
    on_gpu = setup.world.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=output,
        num_train_epochs=1,
        per_device_train_batch_size=setup.settings.batch_size // setup.world.size,
        train_sampling_strategy=strategy,
        length_column_name="length",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=MAX_GRADIENT_NORM,
        lr_scheduler_type="cosine",
        warmup_steps=round(WARMUP_RATIO * setup.steps),
        optim="adamw_torch_fused",
        logging_steps=LOG_EVERY,
        report_to=["tensorboard"],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not on_gpu,
        bf16=setup.precision == "bf16",
        ddp_backend=None if on_gpu else "gloo",
        seed=setup.settings.seed,
    )
    trainer = Trainer(
        model=setup.new_model(),
        args=arguments,
        train_dataset=_data_set(setup),
        data_collator=collator,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return Run(
        steps=clock.steps - 1,
        seconds=clock.ended[0] - clock.started[0],
        cpu_seconds=clock.ended[1] - clock.started[1],
        real_tokens=_of_all_ranks(setup, sum(collator.real_tokens[1 : clock.steps])),
        padding_share=1
        - _of_all_ranks(setup, sum(collator.real_tokens))
        / _of_all_ranks(setup, collator.computed_tokens),
    )


def _of_all_ranks(setup: Setup, count: int) -> int:
    """The sum of a count; a collective."""
    total = torch.tensor(count, device=setup.world.device)
    if setup.world.size > 1:
        torch.distributed.all_reduce(total)
    return int(total)


def _data_set(setup: Setup) -> Dataset:
    """The sentences, encoded beforehand, with their lengths, so that grouping need not count."""
    sentences = setup.sentences()
    return Dataset.from_list([{**row, "length": len(row["input_ids"])} for row in sentences])
