"""``headrace sweep``: train every combination of some settings and seeds, and compare them."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.counts import counted
from headrace.errors import (
    EXIT_DONE,
    EXIT_FAULT,
    EXIT_REQUEUE,
    ConfigError,
    Problem,
)

if TYPE_CHECKING:
    from headrace.report.tables import Table
    from headrace.training.sweep import Item, Sweep

HELP = "train every combination of some settings and seeds, and compare them"
EXAMPLE = (
    "headrace sweep --ds_config ds_configs/demo.json --output runs/sweep --seeds 1,2,3 "
    "--grid optimizer.params.lr=1e-6,5e-6,1e-5 --grid train_batch_size=16,32,64"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--ds_config", "--config", required=True, help="run config of all runs")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="values of a key; all combinations are run (repeatable)",
    )
    parser.add_argument("--seeds", default="", metavar="N,N", help="seeds of each combination")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override for all runs"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the run folders")
    parser.add_argument("--ranks", type=int, default=1, help="ranks of each run (default: 1)")
    parser.add_argument(
        "--launcher",
        default="deepspeed --num_gpus {ranks}",
        help="command that starts the ranks; empty: one process without a launcher "
        "(default: deepspeed --num_gpus {ranks})",
    )
    parser.add_argument(
        "--item", type=int, metavar="N", help="run only item N, from 0, as one task of a job array"
    )
    parser.add_argument("--dry-run", action="store_true", help="check and list all runs, and stop")
    parser.add_argument(
        "--report-only", action="store_true", help="write the report on what is finished, and stop"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check all runs, start those that are not finished, and write the report."""
    from headrace.training.logs import quiet_libraries
    from headrace.training.sweep import plan_sweep, training_command
    from headrace.training.sweep_report import MARKDOWN_FILE, sweep_tables, write_sweep_report

    quiet_libraries()
    sweep = plan_sweep(
        Path(arguments.ds_config),
        Path(arguments.output),
        grid=arguments.grid,
        seeds=seeds_of(arguments.seeds),
        overrides=arguments.set,
        ranks=arguments.ranks,
        launcher=arguments.launcher,
    )
    items = sweep.items
    if arguments.item is not None:
        if not 0 <= arguments.item < len(items):
            remedy = f"Give 0 to {len(items) - 1}"
            raise ConfigError(Problem("no such item", "--item", str(arguments.item), remedy))
        items = (items[arguments.item],)
    command = training_command(sweep, items[0])  # a launcher that is missing shows at once
    if arguments.dry_run:
        print(_overview(sweep).text())
        print(f"first command: {shlex.join(command)}")
        runs = len(sweep.items)
        print(f"{counted(runs, 'run')} (--item 0 to {runs - 1}). Nothing was started.")
        return EXIT_DONE
    stopped = False if arguments.report_only else _run_all(sweep, items)
    results = write_sweep_report(sweep)
    for table in sweep_tables(results):
        if table.rows:
            print(table.text())
    print(f"report: {sweep.output / MARKDOWN_FILE}")
    if stopped:
        return EXIT_REQUEUE
    failed = not arguments.report_only and any(item.status == "failed" for item in items)
    return EXIT_FAULT if failed else EXIT_DONE


def _run_all(sweep: Sweep, items: tuple[Item, ...]) -> bool:
    """Run what is not finished; True if a run was stopped by a signal."""
    from tqdm import tqdm

    from headrace.training.sweep import LOG_FILE, StopRelay, explain_exit, run_item
    from headrace.training.sweep_report import write_sweep_report

    bar = tqdm(total=len(items), desc="sweep", unit=" runs", disable=None)
    with StopRelay() as relay, bar as progress:
        for item in items:
            if item.is_finished:
                tqdm.write(f"{item.name}: is finished already")
                progress.update()
                continue
            progress.set_postfix_str(item.name)
            code = run_item(sweep, item, relay)
            log = "" if code == EXIT_DONE else f", see {item.folder / LOG_FILE}"
            tqdm.write(f"{item.name}: {explain_exit(code)}{log}")
            if code == EXIT_REQUEUE or relay.received:
                return True
            write_sweep_report(sweep)
            progress.update()
    return False


def seeds_of(text: str) -> list[int]:
    """``"1,2,3"`` as numbers."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        remedy = "Write whole numbers: --seeds 1,2,3"
        raise ConfigError(Problem("not a list of seeds", "--seeds", text, remedy)) from None


def _overview(sweep: Sweep) -> Table:
    """One row a run."""
    from headrace.config.checks import batch_arithmetic
    from headrace.report.tables import Table

    rows = []
    for item in sweep.items:
        batch, micro, accumulation = batch_arithmetic(item.config.deepspeed, sweep.ranks)
        rows.append(
            (
                str(item.number),
                item.name,
                item.status,
                f"{item.config.learning_rate:g}",
                f"{batch} = {sweep.ranks} x {micro} x {accumulation}",
                str(item.config.headrace.seed),
            )
        )
    columns = ("Item", "Run", "Status", "lr", "Batch = ranks x micro x steps", "Seed")
    return Table("Runs", columns, tuple(rows), names=3)
