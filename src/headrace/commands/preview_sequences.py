"""What ``headrace preview`` shows of a run whose task cuts texts: sequences, as the network sees
them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.commands.options import counted

if TYPE_CHECKING:
    from headrace.config import RunConfig
    from headrace.training.stages import Branch


def show_sequences(
    config: RunConfig, branch: Branch, *, epoch: int, position: int, count: int
) -> list[str]:
    """Return the lines about some sequences of the stream of a stage.

    Its data is encoded first, where it is not yet: positions depend on how texts are cut.

    Args:
        config: of the run.
        branch: the stage.
        epoch: epochs that have gone before.
        position: of the first sequence, from there on.
        count: how many.

    Raises:
        UserError: with what a start would refuse; for a selection that is not made yet; for a
            position behind the end of the stage.
    """
    import numpy as np

    from headrace.errors import ConfigError, Problem
    from headrace.training.data import collate, encode_data, label_key, open_data
    from headrace.training.logs import quiet_libraries

    quiet_libraries()
    opened = open_data(config)
    if not opened.is_known(branch):
        remedy = "Start the run, or see all samples with --set headrace.selection=null"
        what = "the selection is not made yet"
        raise ConfigError(Problem(what, "headrace.selection", None, remedy))
    data = encode_data(opened, config).of(branch)
    plan = data.opened.plan(branch, config.headrace.seed, data.train)
    sources = [data.train[language] for language in branch.languages]
    per_epoch = plan.samples_per_epoch
    start = epoch * per_epoch + position
    end = start + count
    if plan.total_positions is not None:
        end = min(end, plan.total_positions)
    if start >= end:
        what = "the stage ends before"
        remedy = f"Give a position below {plan.total_positions}"
        raise ConfigError(Problem(what, "--position", str(start), remedy))
    task, tokenizer = opened.task, opened.tokenizer
    lines = []
    for place in range(start, end):
        of_epoch, inside = divmod(place, per_epoch)
        located = plan.locate(of_epoch, np.array([inside]))
        passes = int(plan.passes(of_epoch, np.array([inside]))[0])
        source = sources[int(located.source[0])]
        shard = source.shards[int(located.shard[0])]
        lines.append(
            f"{place:,}  (epoch {of_epoch}, position {inside:,})  {source.language}, "
            f"pass {passes + 1}, {shard.name}, sequence {int(located.sample[0]):,}"
        )
        batch = collate(task, sources, located, int(tokenizer.pad_token_id), label_key(plan))
        lines += [f"  {tokenizer.decode(batch['input_ids'][0])}", ""]
    length = f"{counted(per_epoch, 'sequence')} an epoch"
    if plan.total_positions is not None:
        length += f", {plan.total_positions:,} in all"
    return [*lines, f"stage {branch.title}: {length}"]
