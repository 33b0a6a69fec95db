"""Checks of penalties that need neither a network nor data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headrace.config.penalty import EwcConfig, L2SpConfig
from headrace.config.schema import HeadraceConfig, StageConfig
from headrace.errors import Problem

_OF_MASKED_LM = ("text", "masked_share", "fit_head", "cache_dir")


def check_penalties(config: HeadraceConfig, deepspeed: Mapping[str, Any]) -> list[Problem]:
    """Check the penalty of every stage, and that DeepSpeed's settings leave room for one."""
    problems = [
        problem
        for number, stage in enumerate(config.stages)
        if stage.penalty is not None
        for problem in _check(config, stage, stage.penalty, f"headrace.stages.{number}.penalty")
    ]
    if any(stage.penalty is not None for stage in config.stages):
        problems += check_room_for_penalties(deepspeed)
        if config.model.lora is not None:
            problems.append(
                Problem(
                    "adapters leave nothing to hold: all weights but theirs and those of the head "
                    "are frozen",
                    "headrace.model.lora",
                    remedy="Remove it, or the penalties of the stages",
                )
            )
    return problems


def folders_of_penalties(config: HeadraceConfig) -> list[tuple[str, str]]:
    """Return the folders that penalties name, each with its JSON path."""
    return [
        (f"headrace.stages.{number}.penalty.cache_dir", stage.penalty.cache_dir)
        for number, stage in enumerate(config.stages)
        if isinstance(stage.penalty, EwcConfig) and stage.penalty.cache_dir is not None
    ]


def _check(
    config: HeadraceConfig, stage: StageConfig, penalty: L2SpConfig | EwcConfig, where: str
) -> Iterator[Problem]:
    pretrained = config.model.pretrained is not None
    if stage.start_from is None and not pretrained:
        yield Problem(
            "the stage starts from new weights, there is nothing to hold on to",
            where,
            remedy="Give the stage start_from, or headrace.model.pretrained",
        )
    elif not pretrained and penalty.anchor == "pretrained":
        yield Problem(
            "there is no pretrained model",
            f"{where}.anchor",
            "pretrained",
            'Set it to "start", or give headrace.model.pretrained',
        )
    if isinstance(penalty, EwcConfig):
        yield from _check_ewc(stage, penalty, where, pretrained=pretrained)


def _check_ewc(
    stage: StageConfig, penalty: EwcConfig, where: str, *, pretrained: bool
) -> Iterator[Problem]:
    if penalty.of == "stages":
        for key in _OF_MASKED_LM:
            if getattr(penalty, key) is not None:
                yield _only_with("masked_lm", key, penalty, where)
        if stage.start_from is None:
            yield Problem(
                "there is no stage before this one whose Fisher information could be measured",
                f"{where}.of",
                "stages",
                'Give the stage start_from, or set it to "masked_lm", or type to "l2_sp"',
            )
        return
    if penalty.decay is not None:
        yield _only_with("stages", "decay", penalty, where)
    if penalty.text is None:
        yield Problem(
            "the texts that masked-language modelling is measured on are missing",
            f"{where}.text",
            remedy="Give folders of shards with text",
        )
    if not pretrained and stage.start_from is not None:
        yield Problem(
            "masked-language modelling is measured with a pretrained model, and there is none",
            f"{where}.of",
            "masked_lm",
            'Give headrace.model.pretrained, or set it to "stages"',
        )


def _only_with(kind: str, key: str, penalty: EwcConfig, where: str) -> Problem:
    return Problem(
        f'this has a meaning only with "of": "{kind}"',
        f"{where}.{key}",
        str(getattr(penalty, key)),
        f'Remove it, or set {where}.of to "{kind}"',
    )


def check_room_for_penalties(section: Mapping[str, Any]) -> Iterator[Problem]:
    """Find settings of DeepSpeed with which gradients cannot be changed before its step.

    The gradient of a penalty is added between the last backward pass and the step, where
    DeepSpeed measures the norm of the gradients, clips them and looks for overflows.
    """
    zero = section.get("zero_optimization")
    zero = zero if isinstance(zero, Mapping) else {}
    if zero.get("offload_optimizer"):
        yield Problem(
            "DeepSpeed measures gradients for clipping before a penalty is added to those that "
            "are offloaded",
            "zero_optimization.offload_optimizer",
            remedy="Remove it, or the penalties of the stages",
        )
    for key in ("zenflow", "mics_shard_size"):
        value = zero.get(key)
        if value is not None and value != -1:
            yield Problem(
                "gradients lie where no penalty can be added to them",
                f"zero_optimization.{key}",
                remedy="Remove it, or the penalties of the stages",
            )
    accumulated = _section(section, "data_types").get("grad_accum_dtype")
    if (
        zero.get("stage", 0) == 1
        and _section(section, "bf16").get("enabled")
        and accumulated in {"fp32", "float32", "float"}
    ):
        yield Problem(
            "with bf16 and ZeRO 1 each rank has all gradients for this, but weights of its own",
            "data_types.grad_accum_dtype",
            str(accumulated),
            "Set zero_optimization.stage to 2, or remove it, or the penalties of the stages",
        )
    autocast = _section(section, "torch_autocast")
    if autocast.get("enabled") and autocast.get("dtype") in {"fp16", "float16", "torch.float16"}:
        yield Problem(
            "losses are scaled within torch_autocast, and a penalty would not be",
            "torch_autocast.dtype",
            str(autocast["dtype"]),
            "Use bfloat16 or the section fp16, or remove the penalties of the stages",
        )


def _section(section: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = section.get(key)
    return value if isinstance(value, Mapping) else {}
