"""``headrace submit``: give a run to SLURM, which starts it again until it is finished."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import EXIT_DONE, EXIT_USER_ERROR, ConfigError, Problem

if TYPE_CHECKING:
    from headrace.slurm.batch import Batch
    from headrace.slurm.site import Site

HELP = "give a run to SLURM, which starts it again until it is finished"
EXAMPLE = "headrace submit chain ds_configs/demo.json --site jean_zay_v100 --project abc --dry-run"
CHAIN = "chain"
CHECK = "check"
CHECK_MINUTES = "10"
"""Time limit of a check, unless one is asked for."""
BUILD = "build"
JOBS = (
    *(BUILD, CHECK, "train", "train_array", "select", "search_array", "evaluate", "report"),
    CHAIN,
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "template",
        metavar="TEMPLATE",
        choices=JOBS,
        help=f"batch script of the folder slurm: {', '.join(JOBS[:-1])}; or {CHAIN}: all jobs of a "
        "run, each behind the one before",
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        help="run config; of search_array a study file, of build a recipe; check can do without",
    )
    parser.add_argument(
        "--site", default="generic", help="profile in slurm/sites, or its path (default: generic)"
    )
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="nodes (default: 1)")
    parser.add_argument("--time", metavar="T", help="time limit of a start (default: the site's)")
    parser.add_argument(
        "--project", help="project that pays, where the site asks (default: $HEADRACE_PROJECT)"
    )
    parser.add_argument("--qos", help="quality of service (default: the site's first that fits)")
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="further option of sbatch: --sbatch=--exclude=n7 (repeatable)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of CONFIG"
    )
    parser.add_argument("--stage", help="train, train_array, evaluate: this stage")
    parser.add_argument("--branch", help="train: only this branch")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="train_array: a sweep, as headrace sweep has it, with --output",
    )
    parser.add_argument("--seeds", default="", metavar="N,N", help="train_array: seeds of a sweep")
    parser.add_argument(
        "--output", metavar="DIR", help="train_array: folder of a sweep; build: of the corpus"
    )
    parser.add_argument(
        "--workers", type=int, default=4, metavar="N", help="search_array: workers (default: 4)"
    )
    parser.add_argument(
        "--at-once", type=int, metavar="N", help="tasks of an array that run at the same time"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check and show everything, and submit nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the config, show the jobs, and submit them."""
    from headrace.slurm.controller import Controller, SlurmError
    from headrace.slurm.directives import Options
    from headrace.slurm.site import find_site, read_site
    from headrace.slurm.submission import sbatch_words, shown, submit

    _check_options(arguments)
    site = read_site(find_site(arguments.site))
    options = Options(
        nodes=arguments.nodes,
        time=arguments.time or (CHECK_MINUTES if arguments.template == CHECK else None),
        project=arguments.project or os.environ.get("HEADRACE_PROJECT"),
        qos=arguments.qos,
        sbatch=tuple(arguments.sbatch),
    )
    batches = _batches(arguments, site)
    controller = Controller()
    refused = False
    print("\njobs:")
    for batch in batches:
        words = sbatch_words(batch, site, options, at_once=arguments.at_once)
        print(f"  {shown(words, site)}")
        if arguments.dry_run:
            try:
                print(f"    {controller.test(words)}")
            except SlurmError as error:
                refused = True
                print(f"    {error}")
    if arguments.dry_run:
        print("Nothing was submitted.")
        return EXIT_USER_ERROR if refused else EXIT_DONE
    print()
    for job in submit(batches, site, options, controller, at_once=arguments.at_once):
        print(f"job {job.number}: {job.batch.title}, log {job.log}")
    print(f"follow: slurm/status {batches[0].folder}")
    return EXIT_DONE


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse options that would have no effect."""
    building = arguments.template == BUILD
    sweep = bool(arguments.grid or arguments.seeds or (arguments.output and not building))
    meant = {
        "--stage": (arguments.stage, ("train", "train_array", "evaluate")),
        "--branch": (arguments.branch, ("train",)),
        "--grid, --seeds, --output": (sweep, ("train_array",)),
        "--set": (arguments.set, tuple(job for job in JOBS if job not in ("search_array", BUILD))),
        "--at-once": (arguments.at_once, ("train_array", "search_array", CHAIN)),
    }
    problems = [
        Problem("it would have no effect", name, arguments.template, "Leave it out")
        for name, (given, jobs) in meant.items()
        if given and arguments.template not in jobs
    ]
    if arguments.config is None and arguments.template != CHECK:
        problems.append(Problem("which run?", "CONFIG", None, "Give a run config"))
    if arguments.config is None and arguments.set:
        problems.append(Problem("there is no config to change", "--set", None, "Give CONFIG too"))
    if building and not arguments.output:
        problems.append(Problem("a corpus needs a folder", "--output", None, "Give --output"))
    if sweep and not arguments.output:
        problems.append(Problem("a sweep needs a folder", "--output", None, "Give --output"))
    if sweep and arguments.stage:
        problems.append(Problem("a sweep trains whole runs", "--stage", None, "Leave it out"))
    if problems:
        raise ConfigError(problems)


def _batches(arguments: argparse.Namespace, site: Site) -> list[Batch]:
    """The jobs, made of a config that has been checked as a start would."""
    from headrace.config import load_run_config
    from headrace.slurm import batch
    from headrace.training.logs import quiet_libraries

    template, path = arguments.template, arguments.config
    if path is None:
        return [batch.check_batch(None, None, ())]
    if template == BUILD:
        from headrace.corpus.recipe import load_recipe

        load_recipe(Path(path), Path(arguments.output))
        return [batch.build_batch(path, Path(arguments.output))]
    if template == "search_array":
        from headrace.search.study_file import load_study_file

        study, _ = load_study_file(Path(path))
        return [batch.search_batch(path, Path(study.output), arguments.workers)]
    quiet_libraries()
    ranks = max(1, arguments.nodes) * site.ranks_per_node
    if arguments.output:
        return [_sweep(arguments, ranks)]
    config = load_run_config(path, arguments.set)
    options = [word for text in arguments.set for word in ("--set", text)]
    if template == CHECK:
        return [batch.check_batch(path, config, options)]
    if template == "evaluate":
        return [batch.evaluate_batch(config, arguments.stage)]
    if template == "report":
        return [batch.report_batch(config)]
    if template == "train_array":
        found = batch.branches_batch(path, config, options, arguments.stage)
    elif template == "select":
        found = batch.select_batch(path, config, options)
    from headrace.training.dry_run import show_plan

    show_plan(config, ranks=ranks, stage=arguments.stage, branch=arguments.branch)
    if template == CHAIN:
        return batch.chain(path, config, options)
    if template == "train":
        for name in ("stage", "branch"):
            value = getattr(arguments, name)
            options += [f"--{name}", value] if value else []
        title = "-".join(filter(None, ("train", arguments.stage, arguments.branch)))
        return [batch.train_batch(path, config, options, title)]
    return [found]


def _sweep(arguments: argparse.Namespace, ranks: int) -> Batch:
    from headrace.commands.sweep import seeds_of
    from headrace.slurm.batch import sweep_batch
    from headrace.training.dry_run import show_plan
    from headrace.training.sweep import plan_sweep

    sweep = plan_sweep(
        Path(arguments.config),
        Path(arguments.output),
        grid=arguments.grid,
        seeds=seeds_of(arguments.seeds),
        overrides=arguments.set,
        ranks=ranks,
    )
    show_plan(sweep.items[0].config, ranks=ranks)
    items = [(item.name, item.overrides, item.is_finished) for item in sweep.items]
    return sweep_batch(arguments.config, sweep.output, items)
