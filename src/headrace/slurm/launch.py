"""Command lines that start the processes of a job in its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headrace.slurm.site import Site

RANK_SCRIPT = "slurm/rank.sh"
NODE_SCRIPT = "slurm/node.sh"
WAIT_SECONDS = 120
"""After the first rank has ended, the others are given so long before ``srun`` ends them."""


def launch_command(
    words: Sequence[str], environment: Mapping[str, str], site: Site, *, ranks: bool
) -> list[str]:
    """Return the command that starts a program in this job.

    Args:
        words: the program and its arguments.
        environment: of the batch script.
        site: says how ranks are started.
        ranks: one process for each rank of the site on every node; otherwise one process in all.
    """
    nodes = int(environment["SLURM_JOB_NUM_NODES"]) if ranks else 1
    tasks = site.ranks_per_node if ranks and site.launch == "srun" else 1
    # not --kill-on-bad-exit: it would end the main rank before it has printed what is wrong
    command = [
        "srun", f"--nodes={nodes}", f"--ntasks={nodes * tasks}", f"--ntasks-per-node={tasks}",
        "--kill-on-bad-exit=0", f"--wait={WAIT_SECONDS}",
    ]  # fmt: skip
    cpus = environment.get("SLURM_CPUS_PER_TASK")
    if cpus is not None:  # since version 22.05 srun does not take it over from sbatch
        command.append(f"--cpus-per-task={cpus}")
    if ranks:
        command += site.srun
    if ranks and site.launch == "torchrun":
        return [*command, "bash", NODE_SCRIPT, str(site.ranks_per_node), *words]
    return [*command, "bash", RANK_SCRIPT, *words]
