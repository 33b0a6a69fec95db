"""The batch scripts as they are shipped."""

import shutil
import subprocess
from pathlib import Path

import pytest

from headrace.commands.submit import CHAIN, JOBS
from headrace.slurm.directives import Options, directives
from headrace.slurm.site import find_site, read_site

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "slurm").glob("*.sbatch"))
SITES = sorted((ROOT / "slurm" / "sites").glob("*.env"))
SHELL = [*TEMPLATES, *sorted((ROOT / "slurm").glob("*.sh")), ROOT / "scripts" / "install_slurm.sh"]


def test_there_is_a_batch_script_for_every_job():
    assert {path.stem for path in TEMPLATES} == {*JOBS, "command"} - {CHAIN}


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path):
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck: scripts/install_slurm.sh installs it")
    found = subprocess.run(
        ["shellcheck", "--external-sources", str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
def test_shellcheck_finds_nothing_in_profiles(path):
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck: scripts/install_slurm.sh installs it")
    command = ["shellcheck", "--shell=bash", "--exclude=SC2034", str(path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_every_job_is_warned_before_its_end_and_may_be_requeued(path):
    text = path.read_text()
    for directive in ("--signal=B:USR1@300", "--requeue", "--open-mode=append"):
        assert f"\n#SBATCH {directive}\n" in text
    assert "\n. slurm/environment.sh\n" in text
    assert "\nexec python -m headrace.slurm.job " in text


@pytest.mark.parametrize("site", SITES, ids=lambda path: path.stem)
def test_slurm_accepts_every_script_with_the_directives_of_every_site(slurm, at_root, site):
    words = directives(read_site(find_site(str(site))), Options(nodes=2, project="abc"))
    for path in TEMPLATES:
        slurm.run("sbatch", "--test-only", *words, str(path), "run.json")


def test_slurm_refuses_what_it_does_not_have(slurm, at_root):
    with pytest.raises(RuntimeError, match="not available"):
        slurm.run("sbatch", "--test-only", "--nodes=3", "slurm/train.sbatch", "run.json")
