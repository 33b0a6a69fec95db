"""Site profiles: what they may say, and that the shipped ones are right."""

import subprocess
from pathlib import Path

import pytest

from headrace.errors import ConfigError
from headrace.slurm.site import Qos, read_site

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "slurm" / "sites").glob("*.env"))


def write(folder, text):
    path = folder / "site.env"
    path.write_text(text)
    return path


def test_a_profile_is_read_as_bash_reads_it(tmp_path):
    path = write(
        tmp_path,
        "# a comment\n\n"
        'HEADRACE_DIRECTIVES="--gres=gpu:4 --account={project}@v100"  # another\n'
        "HEADRACE_RANKS_PER_NODE=4\nHEADRACE_LAUNCH=torchrun\nHEADRACE_REQUEUE=no\n"
        "HEADRACE_QOS='short:2:32 long:100.5:16'\nHEADRACE_RETRIES=0\nNCCL_SOCKET_IFNAME=ib0\n"
        "HEADRACE_CHECK=yes\n",
    )
    site = read_site(path)
    assert site.directives == ("--gres=gpu:4", "--account={project}@v100")
    assert (site.ranks_per_node, site.launch, site.requeue) == (4, "torchrun", False)
    assert site.qos == (Qos("short", 2, 32), Qos("long", 100.5, 16))
    assert site.limits.retries == 0
    assert site.check
    assert site.srun == ("--cpu-bind=cores", "--distribution=block:block"), "by default"
    shell = f'. {path}; printf "%s|%s" "$HEADRACE_DIRECTIVES" "$NCCL_SOCKET_IFNAME"'
    printed = subprocess.run(["bash", "-c", shell], capture_output=True, text=True).stdout
    assert printed == "--gres=gpu:4 --account={project}@v100|ib0"


def test_all_that_is_wrong_with_a_profile_is_said_at_once(tmp_path):
    path = write(
        tmp_path,
        "module load cuda\nHEADRACE_RANK_PER_NODE=4\nHEADRACE_LAUNCH=mpirun\n"
        "HEADRACE_REQUEUE=maybe\nHEADRACE_QOS=long\nHEADRACE_IDLE_STARTS=0\n"
        "HEADRACE_CHECK=always\n"
        "HEADRACE_MODULES=cuda python\n",
    )
    with pytest.raises(ConfigError) as caught:
        read_site(path)
    said = [str(problem) for problem in caught.value.problems]
    for word in (
        "site.env:1", "'HEADRACE_RANKS_PER_NODE'", "mpirun", "maybe", "NAME:HOURS:GPUS",
        "HEADRACE_IDLE_STARTS", "always", "site.env:8",
    ):  # fmt: skip
        assert any(word in line for line in said), word
    assert len(said) == 8


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_shipped_profile_is_right(path):
    site = read_site(path)
    assert site.directives


def test_jean_zay_is_asked_as_its_documentation_says():
    site = read_site(ROOT / "slurm" / "sites" / "jean_zay_v100.env")
    assert site.directives == (
        "--constraint=v100-32g", "--ntasks-per-node=1", "--cpus-per-task=40",
        "--hint=nomultithread", "--gres=gpu:4", "--time=20:00:00", "--account={project}@v100",
    )  # fmt: skip
    assert site.qos == (
        Qos("qos_gpu-t3", 20, 512), Qos("qos_gpu-t4", 100, 16), Qos("qos_gpu-dev", 2, 32),
    )  # fmt: skip
    assert (site.launch, site.ranks_per_node) == ("torchrun", 4)
