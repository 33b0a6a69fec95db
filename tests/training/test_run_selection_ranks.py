"""Two ranks choose real sentences for their run by a real encoder; stopped, killed, and at once."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from pyarrow.parquet import read_table

from headrace.cli import main

pytestmark = pytest.mark.slow

LANGUAGES = ("de", "en", "hi")
SECTION = {"fraction": 0.1, "proportional": True, "objective": {"graph_cut": {"lambda": 4}}}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    """Shards of 100 sentences of MultiCoNER II, 1,200 in all."""
    data = os.environ.get("HEADRACE_DATA")
    if not data:
        pytest.skip("HEADRACE_DATA does not name a folder of real corpora")
    folder = tmp_path_factory.mktemp("sources")
    for language in LANGUAGES:
        assert main([
            "build", f"{data}/multiconer_v2/{language}_dev.conll", "--language", language,
            "--output", str(folder / language), "--samples-per-shard", "100", "--limit", "400",
        ]) == 0  # fmt: skip
    return {language: str(folder / language) for language in LANGUAGES}


@pytest.fixture(scope="module")
def write_config(small_corpus, sources, minilm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def write(name: str, cache: Path | None, **changes) -> tuple[Path, Path]:
        """A short run with the section and a cache, or without the section."""
        if cache is not None:
            section = {**SECTION, "embedding": {"model": str(minilm)}, "cache_dir": str(cache)}
            changes = {"headrace.selection": section, **changes}
        changes = {
            "headrace.data.train": sources,
            "headrace.data.validation": {},
            "headrace.data.cache_dir": str(folder / "encoded"),
            "headrace.stages": [{"name": "all", "epochs": 1, "keep_best": "last"}],
            **changes,
        }
        output = folder / name
        return small_corpus.write_config(folder / f"{name}.json", output, **changes), output

    return write


@pytest.fixture(scope="module")
def named(write_config, sources, minilm, launcher, train_script, read_losses, tmp_path_factory):
    """Losses of a run on what the command chose, and the folder of that."""
    folder = tmp_path_factory.mktemp("command")
    chosen = launcher.run_ranks(
        train_script.with_name("select_data.py"),
        *(f"{name}={url}" for name, url in sources.items()),
        "--encoder", str(minilm), "--fraction", "0.1", "--proportional", "--trade-off", "4",
        "--cache", str(folder / "cache"), "--output", str(folder / "selected"),
    )  # fmt: skip
    assert chosen.returncode == 0, chosen.stdout[-3000:] + chosen.stderr[-3000:]
    changes = {"headrace.data.selection": str(folder / "selected")}
    config, output = write_config("named", None, **changes)
    finished = launcher.run_ranks(train_script, "--ds_config", str(config))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return read_losses(output), folder / "selected"


def wait_for_vectors(cache: Path, process: subprocess.Popen) -> None:
    """Until the run embeds; nothing is chosen before it has done so."""
    limit = time.monotonic() + 300
    while not list(cache.glob("*/*")):
        assert process.poll() is None, "the run ended early"
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.extended
def test_a_stopped_and_a_killed_choice_go_on_and_end_as_that_of_the_command(
    write_config, named, launcher, train_script, read_losses, tmp_path
):
    cache, log = tmp_path / "cache", tmp_path / "log"
    config, output = write_config("own", cache)
    process = launcher.start(train_script, "--ds_config", str(config), log=log)
    wait_for_vectors(cache, process)
    children = psutil.Process(process.pid).children(recursive=True)
    (second,) = [child for child in children if "--local_rank=1" in child.cmdline()]
    second.send_signal(signal.SIGUSR1)  # one rank alone: the other must leave its work
    assert process.wait(timeout=120) == 75, log.read_text()[-3000:]
    assert "stopped by a signal while samples were chosen" in log.read_text()
    assert not output.exists()
    selections = cache / "selections"
    assert [path.suffix for path in selections.iterdir()] in ([], [".lock"])

    process = launcher.start(train_script, "--ds_config", str(config), log=log)
    wait_for_vectors(cache, process)
    time.sleep(1)
    for victim in [process, *psutil.Process(process.pid).children(recursive=True)]:
        victim.kill()
    process.wait(timeout=120)
    assert not list(selections.glob("*/selection.json"))

    finished = launcher.run_ranks(train_script, "--ds_config", str(config))
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    losses, folder = named
    assert read_losses(output) == losses
    (found,) = [path for path in selections.iterdir() if path.is_dir()]
    own, by_command = (read_table(path / "selection.parquet") for path in (found, folder))
    assert own.equals(by_command)
    assert json.loads((output / "selection.json").read_text())["folder"] == str(found)


@pytest.mark.extended
def test_two_runs_at_once_make_one_selection(
    write_config, named, launcher, train_script, read_losses, tmp_path
):
    started = []
    for name in ("one", "other"):
        config, output = write_config(name, tmp_path / "cache")
        log = tmp_path / f"{name}.log"
        process = launcher.start(train_script, "--ds_config", str(config), log=log)
        started.append((process, output, log))
    for process, _, log in started:
        assert process.wait(timeout=300) == 0, log.read_text()[-3000:]
    assert [read_losses(output) for _, output, _ in started] == 2 * [named[0]]
    selections = (tmp_path / "cache" / "selections").iterdir()
    assert len([path for path in selections if path.is_dir()]) == 1
    waited = [log for *_, log in started if "waiting for" in log.read_text()]
    assert len(waited) == 1
