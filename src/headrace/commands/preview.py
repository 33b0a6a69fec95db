"""``headrace preview``: show samples of a source, or of the stream of a run."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

from headrace.commands.options import counted

if TYPE_CHECKING:
    from headrace.config import RunConfig
    from headrace.shards import Sample, ShardReader
    from headrace.stream.selected import Chosen
    from headrace.training.stages import Branch

HELP = (
    "print samples of a source, or of a run's stream at any position; entities in brackets, the "
    "right choice starred"
)
EXAMPLE = (
    "headrace preview data/en/train -n 3\n"
    "  headrace preview ds_configs/demo.json --stage multilingual --epoch 2 --position 100"
)
_OF_A_RUN = ("stage", "branch", "epoch", "position", "set")
"""Options that ask for the stream of a run."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("url", metavar="URL|CONFIG", help="folder of a source, or a run config")
    parser.add_argument(
        "-n", type=int, default=5, metavar="N", help="number of samples (default: 5)"
    )
    parser.add_argument("--key", metavar="KEY", help="show only the sample of URL with this key")
    parser.add_argument("--stage", help="with CONFIG: the stage (default: its only one)")
    parser.add_argument("--branch", help="with CONFIG: the branch, such as a language")
    parser.add_argument(
        "--epoch", type=int, metavar="E", help="with CONFIG: start after E epochs (default: 0)"
    )
    parser.add_argument(
        "--position",
        type=int,
        metavar="P",
        help="with CONFIG: start P samples after the start of the epoch (default: 0)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with CONFIG: override a key (repeatable)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the samples, and then counts of languages and tags over them."""
    from headrace.errors import ConfigError, Problem
    from headrace.shards import ShardReader

    problems = [
        Problem("out of range", option, str(number), f"Give {least} or more")
        for option, number, least in (
            ("-n", arguments.n, 1),
            ("--epoch", arguments.epoch or 0, 0),
            ("--position", arguments.position or 0, 0),
        )
        if number < least
    ]
    of_a_run = Path(arguments.url).is_file()
    given = [f"--{name}" for name in _OF_A_RUN if getattr(arguments, name) not in (None, [])]
    if given and not of_a_run:
        remedy = "Give the path of a run config, or leave these options out"
        problems.append(
            Problem("no run config at this path", arguments.url, ", ".join(given), remedy)
        )
    if of_a_run and arguments.key is not None:
        problems.append(
            Problem("a key is looked for in a source", "--key", arguments.key, "Give its URL")
        )
    if problems:
        raise ConfigError(problems)
    if of_a_run:
        return _show_stream(arguments)
    with ShardReader(arguments.url) as reader:
        if arguments.key is not None:
            samples: Iterator[Sample] = iter([_find(reader, arguments.key)])
        else:
            samples = islice(reader, min(arguments.n, len(reader)))
        shown = _Shown()
        for sample in samples:
            shown.print(sample)
        shards = counted(len(reader.manifest.shards), "shard")
        print(f"{counted(len(reader), 'sample')} in {shards}")
    shown.print_counts()
    return 0


def _show_stream(arguments: argparse.Namespace) -> int:
    """Print samples of the stream of a stage, each with the place that it comes from."""
    import numpy as np

    from headrace.config import load_run_config
    from headrace.errors import ConfigError, Problem
    from headrace.stream.feistel import MAX_SIZE
    from headrace.stream.sources import stream_source
    from headrace.training.order import plan_branch
    from headrace.training.sources import chosen_samples, open_shards, selection_folder

    config = load_run_config(arguments.url, arguments.set, thorough=False)
    branch = _chosen_branch(config, arguments)
    if config.headrace.task.cuts_texts:
        from headrace.commands.preview_sequences import show_sequences

        lines = show_sequences(
            config,
            branch,
            epoch=arguments.epoch or 0,
            position=arguments.position or 0,
            count=arguments.n,
        )
        print("\n".join(map(_harmless, lines)))
        return 0
    urls = [config.headrace.data.train[language] for language in branch.languages]
    problems: list[Problem] = []
    opened = open_shards(config, urls, problems)
    by_language = {
        language: opened[url]
        for language, url in zip(branch.languages, urls, strict=True)
        if url in opened
    }
    chosen: dict[str, Chosen] = {}
    if branch.stage.samples != "all":
        folder = selection_folder(config, problems)
        chosen = chosen_samples(config, folder, by_language, problems)
        if config.headrace.selection is not None and folder is None and not problems:
            remedy = "Start the run, or see all samples with --set headrace.selection=null"
            problems.append(
                Problem("the selection is not made yet", "headrace.selection", None, remedy)
            )
    if problems:
        raise ConfigError(problems)
    readers = list(by_language.values())
    sources = [
        stream_source(language, reader, chosen=chosen.get(language))
        for language, reader in by_language.items()
    ]
    plan = plan_branch(branch, sources, config.headrace.seed)
    per_epoch = plan.samples_per_epoch
    start = (arguments.epoch or 0) * per_epoch + (arguments.position or 0)
    if start > MAX_SIZE:
        raise ConfigError(
            Problem("out of range", "--position", str(start), f"Give {MAX_SIZE:,} or less")
        )
    end = start + arguments.n
    if plan.total_positions is not None:
        end = min(end, plan.total_positions)
        if start >= end:
            what = f"the stage ends before, since {plan.stage_mixture.end_reason}"
            remedy = f"Give a position below {plan.total_positions}"
            raise ConfigError(Problem(what, "--position", str(start), remedy))
    shown = _Shown()
    while start < end:
        epoch, first = divmod(start, per_epoch)
        positions = np.arange(first, min(first + min(end - start, 1024), per_epoch))
        located = plan.locate(epoch, positions)
        passes = plan.passes(epoch, positions)
        for number, position in enumerate(positions.tolist()):
            source, shard = int(located.source[number]), int(located.shard[number])
            sample = int(located.sample[number])
            if plan.sources[source].name in chosen:
                sample = int(chosen[plan.sources[source].name].shards[shard][sample])
            print(
                _harmless(
                    f"{epoch * per_epoch + position:,}  (epoch {epoch}, position {position:,})  "
                    f"{plan.sources[source].name}, pass {passes[number] + 1}, "
                    f"{readers[source].manifest.shards[shard].name}, sample {sample:,}"
                )
            )
            shown.print(readers[source].shard(shard)[sample])
        start += len(positions)
    length = f"{counted(per_epoch, 'sample')} an epoch"
    if plan.total_positions is not None:
        length += f", {plan.total_positions:,} in all"
    print(f"stage {branch.title}: {length}")
    shown.print_counts()
    return 0


def _chosen_branch(config: RunConfig, arguments: argparse.Namespace) -> Branch:
    from headrace.errors import ConfigError, Problem
    from headrace.training.stages import choose_branches, expand_stages

    branches = choose_branches(expand_stages(config), arguments.stage, arguments.branch)
    if len(branches) > 1:
        option = "--stage" if arguments.stage is None else "--branch"
        names = ", ".join(branch.title for branch in branches[:20])
        raise ConfigError(Problem("the run has several", option, names, "Choose one"))
    return branches[0]


class _Shown:
    """Prints samples, and counts their languages and tags."""

    def __init__(self) -> None:
        self._languages: Counter[str] = Counter()
        self._tags: Counter[str] = Counter()

    def print(self, sample: Sample) -> None:
        metadata = sample.metadata if "json" in sample.fields else {}
        print("\n".join(_harmless(line) for line in _lines(sample, metadata)))
        self._languages[str(metadata.get("language", "unknown"))] += 1
        self._tags.update(tag for tag in metadata.get("tags", []) if tag != "O")

    def print_counts(self) -> None:
        print(f"languages shown: {_counts(self._languages)}")
        if self._tags:
            print(f"tags shown: {_counts(self._tags)}")


def _find(reader: ShardReader, key: str) -> Sample:
    from headrace.errors import Problem, ShardError

    for number in range(len(reader.manifest.shards)):
        shard = reader.shard(number)
        if key in shard.keys:
            return shard[shard.keys.index(key)]
    raise ShardError(
        Problem("no sample with this key", reader.url, key, "List keys with: headrace preview URL")
    )


def _lines(sample: Sample, metadata: dict[str, Any]) -> list[str]:
    details = " ".join(
        f"{name}={value}"
        for name, value in metadata.items()
        if name not in ("id", "tokens", "tags", "text", "pair")
        and isinstance(value, (str, int, float))
    )
    lines = [f"{sample.key}  {details}".rstrip()]
    if "tokens" in metadata and "tags" in metadata:
        lines.append(f"  {bracketed(metadata['tokens'], metadata['tags'])}")
    elif "txt" in sample.fields:
        lines += [f"  {line}" for line in sample.text.splitlines()]
    if isinstance(metadata.get("choices"), list):
        lines += [
            f"  {'*' if number == metadata.get('label') else '-'} {choice}"
            for number, choice in enumerate(metadata["choices"])
        ]
    others = [name for name in sample.fields if name not in ("txt", "json")]
    lines += [f"  {name}: {len(sample.fields[name]):,} bytes" for name in others]
    return [*lines, ""]


def _harmless(line: str) -> str:
    """The line without control characters: text of others must not steer the terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if category(c) == "Cc" else c for c in line)


def bracketed(tokens: list[str], tags: list[str]) -> str:
    """The sentence with each entity as ``[its words TYPE]``; IOB2 tags."""
    parts: list[str] = []
    entity: list[str] = []
    for token, tag, following in zip(tokens, tags, [*tags[1:], "O"], strict=True):
        if tag == "O":
            parts.append(token)
            continue
        entity.append(token)
        if following != f"I-{tag[2:]}":
            parts.append(f"[{' '.join(entity)} {tag[2:]}]")
            entity = []
    return " ".join(parts)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"
