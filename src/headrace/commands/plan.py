"""``headrace plan``: what each stage of a run will draw, and when."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headrace.commands import plan_memory, plan_simulation
from headrace.commands.plan_overview import PlannedBranch, overview_document, overview_text
from headrace.errors import EXIT_DONE, ConfigError, Problem, UserError

if TYPE_CHECKING:
    from headrace.config import RunConfig
    from headrace.shards.manifest import Manifest
    from headrace.stream.plan import Source
    from headrace.stream.selected import Chosen
    from headrace.training.stages import Branch

HELP = "print and plot what each stage draws: the mix over time, epochs by language, repeats"
EXAMPLE = "headrace plan ds_configs/demo.json --stage multilingual --plot plan.svg"

PLOT_FORMATS = (".svg", ".png", ".html")
_OF_CONFIG = (
    "stage", "branch", "set", "plot", "memory", "gpu", "gpus_per_node", "length", "mean_tokens",
    "calibrate", "node_bandwidth", "storage_bandwidth",
)  # fmt: skip
"""Options that say nothing without a run config."""
MAX_EPOCH_ROWS = 12
"""A stage of more epochs is shown in tenths."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        help="run config (Hjson); --simulate can do without",
    )
    parser.add_argument("--stage", help="show only this stage")
    parser.add_argument("--branch", help="show only this branch, such as a language")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, for example headrace.stages.0.mixture.temperature=0.5 (repeatable)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers to FILE, or - for stdout")
    parser.add_argument("--plot", metavar="FILE", help="draw the plan: FILE.svg, .png or .html")
    plan_memory.configure(parser)
    plan_simulation.configure(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan, write the files; exit code 2 for a plan that training would refuse."""
    if arguments.config is None:
        _check(arguments)
        text, simulated = plan_simulation.simulate_failures(arguments)
        _write(arguments, [text], {"simulation": simulated})
        return EXIT_DONE
    config, branches = _opened(arguments)
    planned = _planned(config, branches)
    texts = ["\n\n".join(overview_text(each) for each in planned)]
    document: dict[str, Any] = {
        "run": config.name,
        "branches": [overview_document(each) for each in planned],
    }
    samples = sum(each.overview.positions for each in planned)
    if arguments.memory:
        memory, document["memory"] = plan_memory.plan_memory(
            arguments, config, branches, samples=samples
        )
        texts.append(memory)
    if arguments.simulate:
        simulation, document["simulation"] = plan_simulation.simulate_run(
            arguments, config, branches, samples=samples
        )
        texts.append(simulation)
    _write(arguments, texts, document)
    if arguments.plot is not None:
        from headrace.report.plan_plot import draw
        from headrace.shards import storage

        figure = draw(
            [each.overview for each in planned],
            title=config.name,
            text=texts[0],
            suffix=_suffix(arguments.plot),
        )
        storage.write_atomically(arguments.plot, figure)
    problems = [problem for each in planned for problem in each.problems]
    if problems:
        raise ConfigError(problems)
    return EXIT_DONE


def _write(arguments: argparse.Namespace, texts: Sequence[str], document: dict[str, Any]) -> None:
    """Print the texts, or the numbers where standard output is for them; write the file."""
    from headrace.shards import storage

    if arguments.json != "-":
        print("\n\n".join(texts))
    if arguments.json is not None:
        content = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        if arguments.json == "-":
            sys.stdout.write(content)
        else:
            storage.write_atomically(arguments.json, content.encode())


def _check(arguments: argparse.Namespace) -> None:
    """Check the options of a call without a config; every problem at once."""
    problems = _option_problems(arguments)
    if not arguments.simulate:
        what, remedy = "a run config is needed", "Give its path; only --simulate can do without"
        problems.append(Problem(what, "CONFIG", remedy=remedy))
    given = {name: getattr(arguments, name) for name in _OF_CONFIG}
    problems += [
        Problem(
            "it needs a run config",
            "--" + name.replace("_", "-"),
            str(value),
            "Give CONFIG, or leave it out",
        )
        for name, value in given.items()
        if value
    ]
    if problems:
        raise ConfigError(problems)


def _option_problems(arguments: argparse.Namespace) -> list[Problem]:
    """Find what is wrong with the options, as far as that does not depend on the config."""
    from headrace.shards import storage

    problems = plan_memory.option_problems(arguments) + plan_simulation.option_problems(arguments)
    if arguments.json not in {None, "-"}:
        problems += storage.output_file_problems(arguments.json, "--json")
    if arguments.plot is not None:
        found = storage.output_file_problems(arguments.plot, "--plot")
        if not found and _suffix(arguments.plot) not in PLOT_FORMATS:
            remedy = f"Name a file with one of: {', '.join(PLOT_FORMATS)}"
            found = [Problem("no format to draw in", "--plot", arguments.plot, remedy)]
        problems += found
    return problems


def _opened(arguments: argparse.Namespace) -> tuple[RunConfig, list[Branch]]:
    """The config and the branches that are asked for; every problem of the options at once."""
    from headrace.config import load_run_config
    from headrace.training.stages import choose_branches, expand_stages

    problems = _option_problems(arguments)
    try:
        config = load_run_config(arguments.config, arguments.set, thorough=False)
        branches = choose_branches(expand_stages(config), arguments.stage, arguments.branch)
    except UserError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    if arguments.plot is not None:
        from headrace.report.plan_plot import require

        require()
    return config, branches


def _suffix(file: str) -> str:
    from pathlib import PurePosixPath

    return PurePosixPath(file).suffix.lower()


def _planned(config: RunConfig, branches: Sequence[Branch]) -> list[PlannedBranch]:
    from headrace.stream.sources import manifest_source
    from headrace.training.order import constant_batch_size

    urls = config.headrace.data.train
    problems: list[Problem] = []
    manifests, chosen = _read(config, branches, problems)
    if problems:
        raise ConfigError(problems)
    planned: list[PlannedBranch] = []
    for branch in branches:
        sources = [
            manifest_source(
                name,
                urls[name],
                manifests[name],
                chosen=None if branch.stage.samples == "all" else chosen.get(name),
            )
            for name in branch.languages
        ]
        try:
            plan = _plan(branch, sources, manifests, config, constant_batch_size(config))
            if config.headrace.selection is not None and branch.stage.samples != "all":
                # whether the chosen ones are enough is not known yet
                plan = plan if chosen else replace(plan, awaits_selection=True, problems=())
            planned.append(replace(plan, cuts_texts=config.headrace.task.cuts_texts))
        except UserError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return planned


def _read(
    config: RunConfig, branches: Sequence[Branch], problems: list[Problem]
) -> tuple[dict[str, Manifest], dict[str, Chosen]]:
    """The manifests of the branches' languages, and what the selection of the run chose of them.

    With a selection the indexes of the shards are read too, else nothing but manifests.
    """
    from headrace.shards.manifest import read_manifest
    from headrace.training.sources import chosen_samples, open_shards, selection_folder

    languages = dict.fromkeys(name for branch in branches for name in branch.languages)
    urls = {language: config.headrace.data.train[language] for language in languages}
    folder = None
    if any(branch.stage.samples != "all" for branch in branches):
        folder = selection_folder(config, problems)
    if folder is not None:
        opened = open_shards(config, urls.values(), problems)
        readers = {language: opened[url] for language, url in urls.items() if url in opened}
        manifests = {language: reader.manifest for language, reader in readers.items()}
        return manifests, chosen_samples(config, folder, readers, problems)
    manifests = {}
    for language, url in urls.items():
        try:
            manifests[language] = read_manifest(url)
        except UserError as error:
            problems += error.problems
    return manifests, {}


def _plan(
    branch: Branch,
    sources: Sequence[Source],
    manifests: Mapping[str, Manifest],
    config: RunConfig,
    batch_size: int | None,
) -> PlannedBranch:
    from headrace.stream.overview import overview
    from headrace.training.order import check_enough, plan_branch, positions_wanted

    plan = plan_branch(branch, sources, config.headrace.seed)
    positions = positions_wanted(branch, plan, batch_size)
    refused: tuple[Problem, ...] = ()
    try:
        check_enough(branch, plan, batch_size)
    except UserError as error:
        refused = error.problems
    if 1 < positions / plan.samples_per_epoch <= MAX_EPOCH_ROWS:
        cuts = [epoch * plan.samples_per_epoch for epoch in range(1, MAX_EPOCH_ROWS)]
    else:
        cuts = [tenth * positions // 10 for tenth in range(1, 10)]
    sizes = [
        sorted((shard.bytes for shard in manifests[name].shards), reverse=True)
        for name in branch.languages
    ]
    # The windows of batches that differ in size depend on the samples' lengths.
    window = plan.block
    if batch_size is not None:
        window = config.headrace.batching.window_batches * batch_size
    facts = overview(plan, positions, cuts, together=window)
    return PlannedBranch(
        branch=branch,
        overview=facts,
        batch_size=batch_size,
        bytes=tuple(sum(each) for each in sizes),
        window_bytes=tuple(
            sum(each[: source.open_shards])
            for each, source in zip(sizes, facts.sources, strict=True)
        ),
        window=window,
        problems=refused,
    )
