"""What DeepSpeed's own part of a run config may hold.

DeepSpeed 0.19 ignores unknown top-level keys and some unknown nested ones without a word; a typo
such as ``gradient_clipp1ng`` trains another model than the one that was meant.
"""

from __future__ import annotations

TOP_LEVEL_KEYS = frozenset(
    [
        "activation_checkpointing",
        "aio",
        "autotuning",
        "bf16",
        "checkpoint",
        "comet",
        "comms_logger",
        "communication_data_type",
        "compile",
        "csv_monitor",
        "data_efficiency",
        "data_types",
        "dataloader_drop_last",
        "datastates_ckpt",
        "disable_allgather",
        "disable_python_gc",
        "dump_state",
        "expert_parallel",
        "flops_profiler",
        "fp16",
        "gradient_accumulation_steps",
        "gradient_allreduce_op",
        "gradient_clipping",
        "gradient_predivide_factor",
        "hybrid_engine",
        "log_level",
        "managed_gradient_accumulation",
        "memory_breakdown",
        "optimizer",
        "pipeline",
        "prescale_gradients",
        "scheduler",
        "seq_parallel_communication_data_type",
        "sequence_parallel_size",
        "steps_per_print",
        "tensor_parallel",
        "tensorboard",
        "timers",
        "torch_autocast",
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "use_data_before_expert_parallelism",
        "vocabulary_size",
        "wall_clock_breakdown",
        "wandb",
        "weight_quantization",
        "zero_allow_untested_optimizer",
        "zero_force_ds_cpu_optimizer",
        "zero_optimization",
    ]
)
"""Top-level keys that DeepSpeed 0.19 reads."""

_ADAM_KEYS = frozenset(
    [
        "lr",
        "betas",
        "eps",
        "weight_decay",
        "bias_correction",
        "torch_adam",
        "adam_w_mode",
        "amsgrad",
        "fused",
    ]
)
OPTIMIZER_PARAMS = {
    "adam": _ADAM_KEYS,
    "adamw": _ADAM_KEYS,
    "lamb": frozenset(
        ["lr", "betas", "eps", "weight_decay", "bias_correction", "max_coeff", "min_coeff"]
    ),
    "lion": frozenset(["lr", "betas", "weight_decay"]),
    "sgd": frozenset(["lr", "momentum", "dampening", "weight_decay", "nesterov"]),
    "adagrad": frozenset(["lr", "eps", "weight_decay"]),
}
"""Keys of ``optimizer.params`` for each ``optimizer.type`` (lower case)."""
