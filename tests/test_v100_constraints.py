"""The exact versions for nodes with V100 GPUs."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints" / "v100.txt"
EXTRAS = ("report", "s3", "http", "doc2vec", "lora", "search")
PINNED_BY_TORCH = ("nvidia-", "cuda-", "triton")


def pins() -> dict[str, str]:
    """Version by name; every line is one exact version."""
    found: dict[str, str] = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            ((operator, version),) = [
                (each.operator, each.version) for each in requirement.specifier
            ]
            name = canonicalize_name(requirement.name)
            assert operator == "=="
            assert name not in found
            found[name] = version
    return found


def requirements() -> list[Requirement]:
    """What the package and its extras ask for."""
    found = map(Requirement, metadata.requires("headrace") or ())
    return [
        each
        for each in found
        if each.marker is None or any(each.marker.evaluate({"extra": name}) for name in EXTRAS)
    ]


def test_every_dependency_has_a_version_that_the_package_allows():
    found = pins()
    for requirement in requirements():
        version = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), (requirement, version)


def test_torch_is_one_with_kernels_for_them():
    found = pins()
    assert found["torch"].startswith("2.10.")
    assert "faiss-gpu-cu12" in found
    assert not {"faiss-cpu", "faiss-gpu"} & set(found)  # all three are the module faiss
    assert not [name for name in found if name.startswith(PINNED_BY_TORCH)]


@pytest.mark.slow
@pytest.mark.extended
def test_the_versions_go_together(tmp_path):
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"),
        *("--report", str(report), "--constraint", str(FILE)),
        *(f"{ROOT}[{','.join(EXTRAS)}]", "faiss-gpu-cu12"),
    ]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    installed = {
        canonicalize_name(each["metadata"]["name"]): each["metadata"]["version"]
        for each in json.loads(report.read_text(encoding="utf-8"))["install"]
    }
    del installed["headrace"]
    own = {
        name: version for name, version in installed.items() if not name.startswith(PINNED_BY_TORCH)
    }
    assert own == pins()
