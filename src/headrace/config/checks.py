"""Checks of a run config that no schema can express; none of them touches a device or the data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from headrace.config.deepspeed_keys import OPTIMIZER_PARAMS, TOP_LEVEL_KEYS
from headrace.config.head_checks import check_heads
from headrace.config.learning_rate_checks import check_learning_rates
from headrace.config.messages import did_you_mean
from headrace.config.mixture import check_mixture
from headrace.config.offload_checks import offload_problems
from headrace.config.schema import HeadraceConfig, StageConfig
from headrace.config.selection import check_selection
from headrace.counts import counted
from headrace.errors import ConfigError, Problem

_FLOATS = ("fp16", "bf16")
_SECTIONS = ("zero_optimization", "fp16", "bf16", "activation_checkpointing", "checkpoint")
_RESERVED_NAMES = frozenset({"tensorboard"})
"""Folders of a run that no stage can be called after."""
_BATCH_KEYS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
)


def check_deepspeed_section(section: Mapping[str, Any], *, thorough: bool = True) -> list[Problem]:
    """Check DeepSpeed's part: unknown keys, the optimizer, precision, what Headrace sets itself.

    Without ``thorough`` the contents of its sections are left to DeepSpeed, whose import, with
    that of torch, takes seconds.
    """
    problems = [
        Problem("DeepSpeed knows no such key", key, remedy=did_you_mean(key, TOP_LEVEL_KEYS))
        for key in section
        if key not in TOP_LEVEL_KEYS and key != "bfloat16"
    ]
    if "bfloat16" in section:
        problems.append(
            Problem("DeepSpeed's old name of a section", "bfloat16", remedy="Write bf16")
        )
    problems += [
        Problem("an object is needed", key, str(section[key]), f'For example {{"{key}": {{}}}}')
        for key in _SECTIONS
        if key in section and not isinstance(section[key], Mapping)
    ]
    if thorough:
        problems += _check_sections(section)
    problems += _check_optimizer(section.get("optimizer"))
    if "scheduler" in section:
        problems.append(
            Problem(
                "DeepSpeed's scheduler would overwrite the learning rates of stages and groups",
                "scheduler",
                remedy="Use headrace.schedule instead",
            )
        )
    zero = section.get("zero_optimization")
    if (
        isinstance(zero, Mapping)
        and zero.get("stage") in (1, 2)
        and zero.get("round_robin_gradients")
    ):
        problems.append(
            Problem(
                "with it DeepSpeed takes weights for those of other parameters, and exports would "
                "be scrambled",
                "zero_optimization.round_robin_gradients",
                "true",
                "Remove it",
            )
        )
    problems += fp16_problems(section)
    problems += offload_problems(section)
    enabled = [
        key
        for key in _FLOATS
        if isinstance(section.get(key), Mapping) and section[key].get("enabled")
    ]
    if len(enabled) == 2:
        problems.append(
            Problem("fp16 and bf16 exclude each other", "fp16.enabled", remedy="Enable one")
        )
    for key in _BATCH_KEYS:
        value = section.get(key)
        if value is not None and (
            not isinstance(value, int) or isinstance(value, bool) or value < 1
        ):
            problems.append(Problem("a positive whole number is needed", key, str(value)))
    if "train_batch_size" not in section:
        problems.append(
            Problem(
                "the global batch size is missing",
                "train_batch_size",
                remedy="Add it: it fixes the steps of a run for any number of ranks",
            )
        )
    return problems


def fp16_problems(section: Mapping[str, Any]) -> list[Problem]:
    """Find fp16 without ZeRO: DeepSpeed 0.19 scales the loss in its ZeRO optimizers alone."""
    floats, zero = section.get("fp16"), section.get("zero_optimization")
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else 0
    if not isinstance(floats, Mapping) or not floats.get("enabled") or stage != 0:
        return []
    return [
        Problem(
            "with fp16 and without ZeRO, DeepSpeed divides gradients by a loss scale that it has "
            "not multiplied the loss by",
            "zero_optimization.stage",
            "0",
            "Set it to 1",
        )
    ]


def _check_sections(section: Mapping[str, Any]) -> list[Problem]:
    """Check ZeRO and precision with DeepSpeed's own models, which would raise only at the start."""
    if not any(isinstance(section.get(name), Mapping) for name in ("zero_optimization", *_FLOATS)):
        return []
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    models = {
        "zero_optimization": DeepSpeedZeroConfig,
        "fp16": DeepSpeedFP16Config,
        "bf16": DeepSpeedBF16Config,
    }
    problems = []
    for name, model in models.items():
        if not isinstance(section.get(name), Mapping):
            continue
        try:
            model(**section[name])
        except ValidationError as error:
            for item in error.errors(include_url=False):
                where = ".".join([name, *map(str, item["loc"])])
                if item["type"] == "extra_forbidden":
                    key = str(item["loc"][-1])
                    remedy = did_you_mean(key, model.model_fields)
                    problems.append(Problem("DeepSpeed knows no such key", where, remedy=remedy))
                else:
                    problems.append(Problem(str(item["msg"]), where, str(item["input"])[:80]))
    return problems


def _check_optimizer(optimizer: Any) -> list[Problem]:
    if not isinstance(optimizer, Mapping) or "type" not in optimizer:
        return [
            Problem(
                "an optimizer with a type and params is needed",
                "optimizer",
                remedy='For example {"type": "AdamW", "params": {"lr": 5e-5}}',
            )
        ]
    params = optimizer.get("params", {})
    if not isinstance(params, Mapping):
        return [Problem("an object is needed", "optimizer.params", str(params))]
    problems = []
    rate = params.get("lr")
    if not isinstance(rate, (int, float)) or not (0 < rate < math.inf):
        problems.append(
            Problem(
                "the base learning rate must be a positive number",
                "optimizer.params.lr",
                str(params.get("lr")),
            )
        )
    known = OPTIMIZER_PARAMS.get(str(optimizer["type"]).lower())
    if known is None:
        problems.append(
            Problem(
                "optimizer not supported",
                "optimizer.type",
                str(optimizer["type"]),
                did_you_mean(str(optimizer["type"]), ["Adam", "AdamW", "Lamb", "Lion", "SGD"]),
            )
        )
        return problems
    for key in params:
        if key == "max_grad_norm":
            remedy = "Use the top-level gradient_clipping instead"
        elif key not in known:
            remedy = did_you_mean(key, known)
        else:
            continue
        problems.append(
            Problem("unknown optimizer parameter", f"optimizer.params.{key}", None, remedy)
        )
    return problems


def check_stages(config: HeadraceConfig) -> list[Problem]:
    """Check what refers to something else: languages, stages, model, validation data."""
    problems: list[Problem] = []
    model = config.model
    if (model.pretrained is None) == (model.config is None):
        problems.append(
            Problem("give either pretrained or config", "headrace.model", remedy="Keep one of them")
        )
    if model.config is not None:
        if "model_type" not in model.config:
            problems.append(
                Problem(
                    "a model from scratch needs its type",
                    "headrace.model.config.model_type",
                    remedy='For example "bert"',
                )
            )
        if model.tokenizer is None:
            problems.append(
                Problem(
                    "a model from scratch needs a tokenizer",
                    "headrace.model.tokenizer",
                    remedy="Make one with `headrace tokenizer` and give its folder",
                )
            )
    problems += [
        Problem(
            "this cannot be the name of a language: it becomes the name of a folder",
            f"headrace.data.train.{language}",
            language,
            "Use a BCP-47 tag such as en or pt-BR",
        )
        for language in config.data.train
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", language) or language == "all"
    ]
    for language in config.data.validation:
        if language not in config.data.train:
            problems.append(
                Problem(
                    "validation data of a language that is not trained",
                    f"headrace.data.validation.{language}",
                    language,
                    did_you_mean(language, config.data.train),
                )
            )
    problems += _check_batching(config)
    problems += check_heads(config)
    problems += check_selection(config)
    problems += check_learning_rates(config)
    seen: dict[str, StageConfig] = {}
    for number, stage in enumerate(config.stages):
        problems += _check_stage(config, stage, f"headrace.stages.{number}", seen)
        seen[stage.name] = stage
    return problems


def _check_batching(config: HeadraceConfig) -> list[Problem]:
    batching, longest = config.batching, config.task.max_length
    where = "headrace.batching"
    problems = [
        Problem(
            f'this has a meaning only with "type": "{kind}"',
            f"{where}.{key}",
            str(getattr(batching, key)),
            f'Remove it, or set {where}.type to "{kind}"',
        )
        for kind, key in (("tokens", "tokens_per_batch"), ("packed", "pack_length"))
        if batching.type != kind and getattr(batching, key) is not None
    ]
    if batching.type == "tokens" and batching.tokens_per_batch is None:
        problems.append(
            Problem(
                "batches of tokens need a budget",
                f"{where}.tokens_per_batch",
                remedy="Give the tokens of a batch over all ranks, for example 8192",
            )
        )
    problems += [
        Problem(
            "one sample of headrace.task.max_length would not fit",
            f"{where}.{key}",
            f"{getattr(batching, key)}, max_length {longest}",
            f"Raise it to {longest} at least",
        )
        for key in ("tokens_per_batch", "pack_length")
        if (getattr(batching, key) or longest) < longest
    ]
    if batching.type == "packed" and config.task.never_packed is not None:
        problems.append(
            Problem(
                f"{config.task.never_packed}, they cannot be packed",
                f"{where}.type",
                "packed",
                'Set it to "samples" or "tokens"',
            )
        )
    if batching.type != "samples" and not batching.sort_by_length:
        problems.append(
            Problem(
                f"batches of type {batching.type} are always filled by length",
                f"{where}.sort_by_length",
                "false",
                'Remove it, or set the type to "samples"',
            )
        )
    return problems


def _check_stage(
    config: HeadraceConfig, stage: StageConfig, where: str, earlier: Mapping[str, StageConfig]
) -> list[Problem]:
    problems: list[Problem] = []
    if stage.name in _RESERVED_NAMES:
        problems.append(
            Problem("the run folder uses this name itself", f"{where}.name", stage.name)
        )
    if stage.languages != "all" and len(set(stage.languages)) != len(stage.languages):
        problems.append(
            Problem("a language stands twice", f"{where}.languages", ", ".join(stage.languages))
        )
    if stage.name in earlier:
        problems.append(Problem("two stages have the same name", f"{where}.name", stage.name))
    if stage.start_from is not None and stage.start_from not in earlier:
        problems.append(
            Problem(
                "no earlier stage has this name",
                f"{where}.start_from",
                stage.start_from,
                did_you_mean(stage.start_from, earlier)
                if earlier
                else "The first stage starts from `model`: remove the key",
            )
        )
    elif stage.start_from is not None:
        parent = earlier[stage.start_from]
        missing = set(stage_languages(config, stage)) - set(stage_languages(config, parent))
        if parent.for_each is not None and stage.for_each == parent.for_each and missing:
            problems.append(
                Problem(
                    "the earlier stage has no model for every language of this stage",
                    f"{where}.languages",
                    ", ".join(sorted(missing)),
                    f"Add the languages to stage {parent.name}, or leave them out here",
                )
            )
        if parent.for_each is not None and stage.for_each != parent.for_each:
            problems.append(
                Problem(
                    "the earlier stage has one model a language, this stage needs one",
                    f"{where}.start_from",
                    stage.start_from,
                    'Add "for_each": "language" to this stage',
                )
            )
    languages = stage_languages(config, stage)
    for language in languages:
        if language not in config.data.train:
            problems.append(
                Problem(
                    "no training data for this language",
                    f"{where}.languages",
                    language,
                    did_you_mean(language, config.data.train),
                )
            )
    if stage.keep_best == "validation_loss":
        wanted = (
            languages
            if stage.for_each
            else tuple(
                () if any(name in config.data.validation for name in languages) else languages[:1]
            )
        )
        problems += [
            Problem(
                "keep_best needs validation data, and there is none for this language",
                f"headrace.data.validation.{language}",
                remedy=f'Add it, or set {where}.keep_best to "last"',
            )
            for language in wanted
            if language not in config.data.validation
        ]
    problems += check_mixture(stage, languages, where)
    return problems


def stage_languages(config: HeadraceConfig, stage: StageConfig) -> tuple[str, ...]:
    """Return the languages of a stage in a fixed order."""
    if stage.languages == "all":
        return tuple(config.data.train)
    return tuple(stage.languages)


def batch_arithmetic(section: Mapping[str, Any], world_size: int) -> tuple[int, int, int]:
    """Return (global batch size, micro-batch size, accumulation steps) for a number of ranks.

    Raises:
        ConfigError: if the global batch size is not ranks x micro-batch x accumulation.
    """
    batch = int(section["train_batch_size"])
    micro = section.get("train_micro_batch_size_per_gpu")
    accumulation = section.get("gradient_accumulation_steps")
    if micro is None:
        micro = batch // (world_size * (accumulation or 1))
    if accumulation is None:
        accumulation = batch // (world_size * micro) if micro else 0
    if batch != world_size * micro * accumulation:
        given = [f"{key} {section[key]}" for key in _BATCH_KEYS[1:] if section.get(key) is not None]
        step = world_size
        for key in _BATCH_KEYS[1:]:
            step *= section.get(key) or 1
        with_what = " and ".join([counted(world_size, "rank"), *given])
        raise ConfigError(
            Problem(
                f"the global batch is not ranks x micro-batch x accumulation "
                f"({world_size} x {micro} x {accumulation} = {world_size * micro * accumulation})",
                "train_batch_size",
                str(batch),
                f"With {with_what}, make train_batch_size a multiple of {step}; in a run that has "
                "begun it stays as it is: start with another number of ranks",
            )
        )
    return batch, int(micro), int(accumulation)
