"""``headrace plan``: what each stage of a run will draw, and when."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace.commands import plan_memory
from headrace.commands.options import counted
from headrace.errors import EXIT_DONE, ConfigError, Problem, UserError

if TYPE_CHECKING:
    from headrace.config import RunConfig
    from headrace.shards.manifest import Manifest
    from headrace.stream.overview import Edge, StageOverview
    from headrace.stream.plan import Source
    from headrace.stream.selected import Chosen
    from headrace.training.stages import Branch

HELP = "print and plot what each stage draws: the mix over time, epochs by language, repeats"
EXAMPLE = "headrace plan ds_configs/demo.json --stage multilingual --plot plan.svg"

PLOT_FORMATS = (".svg", ".png", ".html")
MAX_EPOCH_ROWS = 12
"""A stage of more epochs is shown in tenths."""
BAR_WIDTH = 48
LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""One for each source of a bar; further sources share the last sign."""
OTHERS = "+"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("config", metavar="CONFIG", help="run config (Hjson)")
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


@dataclass(frozen=True)
class PlannedBranch:
    """A branch, what it draws, and what that needs."""

    branch: Branch
    overview: StageOverview
    batch_size: int | None
    """Samples of a batch; None where batches differ."""
    bytes: tuple[int, ...]
    """Of all shards of each source."""
    window_bytes: tuple[int, ...]
    """Of the largest shards of each source, as many as may be in use at once."""
    window: int
    """Samples in a row that shards are counted for: a window of batches, or else a block."""
    problems: tuple[Problem, ...]
    """Why training would refuse the branch."""
    awaits_selection: bool = False
    """Whether the run is going to choose some of these samples when it starts."""
    cuts_texts: bool = False
    """Whether these samples are texts, and those of the run the sequences they are cut into."""


def run(arguments: argparse.Namespace) -> int:
    """Print the plan, write the files; exit code 2 for a plan that training would refuse."""
    from headrace.shards import storage

    config, branches = _opened(arguments)
    planned = _planned(config, branches)
    text = "\n\n".join(_text(each) for each in planned)
    document: dict[str, Any] = {
        "run": config.name,
        "branches": [_document(each) for each in planned],
    }
    memory = ""
    if arguments.memory:
        memory, document["memory"] = plan_memory.plan_memory(
            arguments, config, branches, samples=sum(each.overview.positions for each in planned)
        )
    if arguments.json != "-":
        print("\n\n".join(filter(None, (text, memory))))
    if arguments.json is not None:
        content = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        if arguments.json == "-":
            sys.stdout.write(content)
        else:
            storage.write_atomically(arguments.json, content.encode())
    if arguments.plot is not None:
        from headrace.report.plan_plot import draw

        figure = draw(
            [each.overview for each in planned],
            title=config.name,
            text=text,
            suffix=_suffix(arguments.plot),
        )
        storage.write_atomically(arguments.plot, figure)
    problems = [problem for each in planned for problem in each.problems]
    if problems:
        raise ConfigError(problems)
    return EXIT_DONE


def _opened(arguments: argparse.Namespace) -> tuple[RunConfig, list[Branch]]:
    """The config and the branches that are asked for; every problem of the options at once."""
    from headrace.config import load_run_config
    from headrace.shards import storage
    from headrace.training.stages import choose_branches, expand_stages

    problems = plan_memory.option_problems(arguments)
    if arguments.json not in {None, "-"}:
        problems += storage.output_file_problems(arguments.json, "--json")
    if arguments.plot is not None:
        found = storage.output_file_problems(arguments.plot, "--plot")
        if not found and _suffix(arguments.plot) not in PLOT_FORMATS:
            remedy = f"Name a file with one of: {', '.join(PLOT_FORMATS)}"
            found = [Problem("no format to draw in", "--plot", arguments.plot, remedy)]
        problems += found
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


def _document(planned: PlannedBranch) -> dict[str, Any]:
    facts = planned.overview
    sources = [
        {
            **asdict(source),
            "passes": source.passes,
            "repeated": source.repeated,
            "unseen": source.unseen,
            "share": source.drawn / max(1, facts.positions),
            "bytes": planned.bytes[number],
            "window_bytes": planned.window_bytes[number],
        }
        for number, source in enumerate(facts.sources)
    ]
    return {
        "stage": planned.branch.stage.name,
        "branch": planned.branch.name,
        "samples_per_epoch": facts.samples_per_epoch,
        "samples": facts.positions,
        "batch_size": planned.batch_size,
        "sources": sources,
        "mix": [asdict(stretch) for stretch in facts.stretches],
        "edges": [asdict(edge) for edge in facts.edges],
        "phases_not_reached": [
            {"phase": number, "start": start} for number, start in facts.phases_not_reached
        ],
        "window": planned.window,
        "open_shards": sum(source.open_shards for source in facts.sources),
        "cache_bytes": {"windows": sum(planned.window_bytes), "all": sum(planned.bytes)},
        "awaits_selection": planned.awaits_selection,
        "cuts_texts": planned.cuts_texts,
        "refused": [str(problem) for problem in planned.problems],
    }


def _text(planned: PlannedBranch) -> str:
    """The plan of a branch for a terminal: sources, mix over time, edges, needs."""
    from headrace.stream.batching import steps_until

    facts = planned.overview
    length = f"{facts.positions / facts.samples_per_epoch:.4g} epochs of"
    head = f"{facts.stage}: {length} {counted(facts.samples_per_epoch, 'sample')}"
    if planned.batch_size is not None and not planned.cuts_texts:
        steps = steps_until(facts.positions, facts.samples_per_epoch, planned.batch_size)
        head += f", {steps:,} {'batch' if steps == 1 else 'batches'} of {planned.batch_size}"
    lines = [head, "", *_source_table(planned)]
    if planned.awaits_selection:
        lines.insert(1, "  the selection is not made yet: these are the numbers of all samples")
    if planned.cuts_texts:
        note = "samples: texts; how many sequences they are cut into is known after encoding"
        lines.insert(1, f"  {note}")
    if len(facts.sources) > 1:
        lines += ["", *_mix(facts), ""]
        lines += [f"  {line}" for edge in facts.edges for line in _edge_lines(edge, facts)]
    lines += [
        f"  phase {number} would begin at position {start:,}: the stage is over before"
        for number, start in facts.phases_not_reached
    ]
    shards = sum(source.open_shards for source in facts.sources)
    lines += [
        "",
        f"  {counted(planned.window, 'sample')} in a row lie in {counted(shards, 'shard')} at "
        f"most; a cache needs {_size(sum(planned.window_bytes))} for these, "
        f"{_size(sum(planned.bytes))} for all",
    ]
    return "\n".join(lines)


def _sign(number: int) -> str:
    return LETTERS[number] if number < len(LETTERS) else OTHERS


def _source_table(planned: PlannedBranch) -> list[str]:
    facts = planned.overview
    rows = [
        ["", "source", "shards", "samples", "share", "drawn", "passes", "repeated", "never seen",
         "epoch limit"]
    ]  # fmt: skip
    for number, source in enumerate(facts.sources):
        limit = "none" if source.limit is None else f"{source.limit / source.samples:g}"
        if source.exhausted_at is not None:
            limit += f", reached at epoch {source.exhausted_at / facts.samples_per_epoch:.3g}"
        rows.append(
            [
                _sign(number),
                source.name,
                f"{source.shards:,}",
                f"{source.samples:,}",
                f"{source.drawn / max(1, facts.positions):.2%}",
                f"{source.drawn:,}",
                f"{source.passes:.3g}",
                f"{source.repeated:,}",
                f"{source.unseen:,}",
                limit,
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if column in (0, 1, 9) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _mix(facts: StageOverview) -> list[str]:
    """A bar for each stretch of the stage: as many letters of each source as its share."""
    per_epoch = facts.samples_per_epoch
    labels = [
        f"{stretch.start / per_epoch:.2f} to {stretch.end / per_epoch:.2f}"
        for stretch in facts.stretches
    ]
    width = max(len("epochs"), *map(len, labels))
    lines = [f"  {'epochs':<{width}}  mix"]
    for label, stretch in zip(labels, facts.stretches, strict=True):
        total = max(1, stretch.end - stretch.start)
        bar, before = "", 0
        for number, drawn in enumerate(stretch.drawn):
            before += drawn
            bar += _sign(number) * (round(before / total * BAR_WIDTH) - len(bar))
        lines.append(f"  {label:<{width}}  {bar}")
    return lines


def _edge_lines(edge: Edge, facts: StageOverview) -> list[str]:
    place = f"position {edge.position:,} (epoch {edge.position / facts.samples_per_epoch:.4g})"
    if edge.exhausted is not None:
        what = f"{edge.exhausted} has been gone through as often as it may"
    elif edge.position == 0:
        what = "the stage begins"
    else:
        what = f"phase {edge.phase} begins"
    if edge.is_end:
        return [f"{place}: {what}, and the stage ends"]
    shares = ", ".join(
        f"{source.name} {share:.1%}"
        for source, share in zip(facts.sources, edge.shares, strict=True)
        if share
    )
    return [f"{place}: {what}", f"  {shares}"]


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.4g} {unit}"
        number /= 1000
    return f"{number:.4g} TB"
