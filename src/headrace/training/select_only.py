"""The samples of a run chosen ahead of its training, as a job of its own."""

from __future__ import annotations

from headrace.config import RunConfig
from headrace.training.distributed import World, failing_together, process_group
from headrace.training.run import check_run
from headrace.training.selection import choose_samples
from headrace.training.signals import StopFlag
from headrace.training.stages import Branch, choose_branches, expand_stages


def choose(config: RunConfig, *, stage: str | None = None, branch: str | None = None) -> None:
    """Choose the samples of a config, by all ranks; the training will find them in the cache.

    Args:
        config: checked run config with a section ``selection``.
        stage: for this stage only.
        branch: for this branch only.

    Raises:
        UserError: for everything that is wrong with the input.
        StopRequested: after a stop signal; the vectors that are made stay in the cache.
    """
    with StopFlag() as stop_flag, process_group() as world:
        with failing_together(world):
            branches = choose_branches(expand_stages(config), stage, branch)
        choose_in_group(config, branches, world, stop_flag)


def choose_in_group(
    config: RunConfig, branches: list[Branch], world: World, stop_flag: StopFlag
) -> None:
    """Choose the samples of some branches in a process group that exists."""
    with failing_together(world):
        opened, _ = check_run(config, branches, world.size)
    choose_samples(config, branches, opened, world, stop_flag)
