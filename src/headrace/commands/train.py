"""``headrace train``: run the stages of a config under DeepSpeed."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from headrace.config import load_run_config
from headrace.errors import EXIT_DONE, ConfigError, Problem, StopRequested, UserError

HELP = "train the stages of a run config under DeepSpeed; run it again to go on where it stopped"
EXAMPLE = "deepspeed --num_gpus 2 launch/train.py --ds_config ds_configs/demo.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--ds_config", "--config", required=True, help="run config (Hjson)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, for example headrace.stages.0.epochs=2 (repeatable)",
    )
    parser.add_argument("--stage", help="train only this stage")
    parser.add_argument("--branch", help="train only this branch, such as a language")
    parser.add_argument(
        "--select-only",
        action="store_true",
        help="choose the samples as the section headrace.selection says, and stop",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, show the plan, and stop"
    )
    parser.add_argument(
        "--ranks", type=int, help="ranks that --dry-run plans for (default: those started)"
    )
    parser.add_argument(
        "--profile-steps",
        metavar="A:B",
        help="trace step A to step B of each branch with PyTorch's profiler, into the run folder",
    )
    # DeepSpeed's launcher adds this to every command; the environment says the same
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Train, or show the plan."""
    from headrace.training.distributed import environment_rank
    from headrace.training.logs import quiet_libraries

    main = environment_rank() == 0
    logging.basicConfig(level=logging.INFO if main else logging.WARNING, format="%(message)s")
    quiet_libraries()
    try:
        config = load_run_config(arguments.ds_config, _overrides(arguments))
        if arguments.select_only and config.headrace.selection is None:
            what, remedy = "nothing is to be chosen", "Add the section, or leave --select-only out"
            raise ConfigError(Problem(what, "headrace.selection", remedy=remedy))
    except ConfigError as error:
        if main:
            raise
        return error.exit_code  # every rank reads the same file; the main rank prints
    try:
        if arguments.dry_run:
            from headrace.training.dry_run import show_plan

            if main:
                show_plan(
                    config,
                    ranks=arguments.ranks,
                    stage=arguments.stage,
                    branch=arguments.branch,
                )
            return EXIT_DONE
        if arguments.select_only:
            from headrace.training.select_only import choose

            choose(config, stage=arguments.stage, branch=arguments.branch)
            return EXIT_DONE
        from headrace.training.run import train

        train(config, stage=arguments.stage, branch=arguments.branch)
    except UserError as error:
        if main or not error.joint:
            raise
        return error.exit_code  # the main rank prints what the ranks found together
    except StopRequested as error:
        if main:
            raise
        return error.exit_code
    if main:
        from headrace.report.write import write_results_markdown

        print(write_results_markdown(config.output).read_text(encoding="utf-8"))
        _write_page(config.output)
    return EXIT_DONE


def _overrides(arguments: argparse.Namespace) -> list[str]:
    """What the options change in the config."""
    steps = arguments.profile_steps
    profiled = [f"headrace.logging.profile_steps={json.dumps(steps)}"] if steps else []
    return [*arguments.set, *profiled]


def _write_page(output: Path) -> None:
    """Write ``report.html`` if the extra ``report`` is installed; say how to get it if not."""
    from headrace.errors import MissingExtraError
    from headrace.report.write import write_report

    try:
        print(f"report: {write_report(output)}")
    except MissingExtraError as error:
        print(f"no report.html: {error}", file=sys.stderr)
