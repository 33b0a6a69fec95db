"""The networks that predictions are checked with, and what is predicted for them.

Each has over 100 MB of weights, so that the memory of the libraries hides no error.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from headrace.planning.memory import Memory, memory_of_rank
from headrace.planning.setup import Sizes, setup_of
from headrace.planning.workload import activations_of_task
from headrace.tasks.causal_lm import CausalLM
from headrace.tasks.labels import load_label_set
from headrace.tasks.masked_lm import MaskedLM
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification

NETWORKS: dict[str, dict[str, Any]] = {
    # 25 million weights in 8 layers, 8 million in the embeddings; dropout in attention
    "bert": {
        "task": "masked_lm",
        "model_type": "bert",
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "vocab_size": 16000,
        "max_position_embeddings": 256,
    },
    # four fifths of the weights are embeddings
    "xlm-roberta": {
        "task": "token_classification",
        "model_type": "xlm-roberta",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "vocab_size": 120000,
        "max_position_embeddings": 260,
        "pad_token_id": 1,
    },
    # a decoder: grouped queries, gated layers, logits of the vocabulary for every token
    "llama": {
        "task": "causal_lm",
        "model_type": "llama",
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 1408,
        "vocab_size": 32000,
        "max_position_embeddings": 512,
    },
}
TINY = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 200,
        "intermediate_size": 64, "num_key_value_heads": 2}  # fmt: skip


def task_of(name: str) -> Task:
    """The task that a network is trained for."""
    kind = NETWORKS[name]["task"]
    if kind == "masked_lm":
        return MaskedLM(masked_share=0.15)
    if kind == "causal_lm":
        return CausalLM()
    return TokenClassification(load_label_set("multiconer_v2"))


def network_of(spec: dict[str, Any], task: Task, *, tiny: bool = False) -> PreTrainedModel:
    """A new network, on the device that is the default at the time."""
    settings = {**NETWORKS[spec["network"]]}
    del settings["task"]
    if tiny:
        settings |= {key: value for key, value in TINY.items() if key in settings}
    kind = settings.pop("model_type")
    config = AutoConfig.for_model(kind, **settings, **task.model_settings())
    network = task.model_class.from_config(
        config, dtype=torch.float32, attn_implementation=spec.get("attention", "sdpa")
    )
    if spec.get("checkpointing"):
        network.gradient_checkpointing_enable({"use_reentrant": False})
    return network


def deepspeed_of(spec: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's part of a run config."""
    micro, accumulation = spec["micro"], spec.get("accumulation", 1)
    section = {
        "train_batch_size": micro * accumulation * spec["ranks"],
        "train_micro_batch_size_per_gpu": micro,
        "gradient_clipping": 1.0,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
        "zero_optimization": {
            "stage": spec["stage"],
            "reduce_bucket_size": 5_000_000,
            **spec.get("zero", {}),
        },
    }
    if spec.get("precision", "fp32") != "fp32":
        section[spec["precision"]] = {"enabled": True}
    return section


def predicted(spec: dict[str, Any], kind: str = "cpu") -> Memory:
    """What a rank is predicted to need."""
    task = task_of(spec["network"])
    with torch.device("meta"):
        network = network_of(spec, task)
    precision = spec.get("precision", "fp32")
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    network.to(types[precision])
    parameters = [parameter.numel() for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter.numel() for parameter in network.parameters() if parameter.dim() <= 1]
    setup = setup_of(
        deepspeed_of(spec),
        kind=kind,
        precision=precision,
        ranks=spec["ranks"],
        accumulation=spec.get("accumulation", 1),
    )
    model = activations_of_task(task, network, spec["length"], kind)
    sizes = Sizes((tuple(parameters), tuple(others)))
    return memory_of_rank(sizes, setup, model(spec["micro"]))
