"""``headrace check``: look at the nodes of a job before it works on them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import EXIT_FAULT, ConfigError, HeadraceError

if TYPE_CHECKING:
    from headrace.check.run import Request

HELP = "look at the nodes of a job before it works: versions, devices, files, clocks, network"
EXAMPLE = "srun --ntasks-per-node=4 python launch/check.py --ds_config ds_configs/demo.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--ds_config", "--config", help="run config: its run folder and shards are looked at"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of it"
    )
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="folder that all nodes are to share (default: that of the run, or the current one)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=180.0,
        metavar="SECONDS",
        help="how long ranks that are missing or do not go on are waited for (default: 180)",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    # DeepSpeed's launcher adds this to every command; the environment says the same
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Check, and print on rank 0 what was found."""
    # torch would warn at every attempt to reach a rank that is not there yet
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from headrace.check.report import data_of, text_of
    from headrace.check.run import check
    from headrace.slurm import rank_logs
    from headrace.training.distributed import environment_rank

    main = environment_rank() == 0
    try:
        request = _request(arguments)
    except ConfigError as error:
        if main:
            raise
        return error.exit_code  # every rank reads the same file
    try:
        outcome = check(request)
    except HeadraceError:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            raise
        return EXIT_FAULT  # one rank of each node says what it does not reach
    if outcome.report is not None:
        report = outcome.report
        print(json.dumps(data_of(report), indent=1) if arguments.json else text_of(report))
        rank_logs.leave_faulty(os.environ, report.faulty)
    if outcome.hangs:
        sys.stdout.flush()
        os._exit(outcome.code)
    return outcome.code


def _request(arguments: argparse.Namespace) -> Request:
    from headrace.check.run import Request
    from headrace.config import load_run_config

    if arguments.ds_config is None:
        return Request(Path(arguments.folder or "."), seconds=arguments.wait)
    config = load_run_config(arguments.ds_config, arguments.set, thorough=False)
    data = config.headrace.data
    sources = dict.fromkeys([*data.train.values(), *data.validation.values()])
    folder = Path(arguments.folder) if arguments.folder else config.output
    return Request(folder, tuple(sources), config, arguments.wait)
