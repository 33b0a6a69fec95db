"""The cache of remote shards as commands and runs use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.cli import main
from headrace.config import load_run_config
from headrace.training.data import encode_data, open_data
from headrace.training.sources import cache_of_run


@pytest.fixture
def remote(web: Any, small_corpus: Any, tmp_path: Path) -> str:
    """The small corpus behind a web server."""
    (tmp_path / "corpus").symlink_to(small_corpus.folder)
    return f"{web.url}/corpus"


def test_encode_keeps_copies_that_the_next_command_reads(
    web: Any,
    remote: str,
    small_corpus: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [
        "encode",
        f"{remote}/en/train",
        "--tokenizer",
        str(small_corpus.tokenizer),
        "--labels",
        "multiconer_v2",
        "--shard-cache",
        str(tmp_path / "shards"),
    ]
    assert main([*command, "--max-length", "48", "--cache", str(tmp_path / "a")]) == 0
    copies = sorted(path.name for path in (tmp_path / "shards").rglob("*.tar"))
    assert copies == [f"shard-{number:06d}.tar" for number in range(4)]
    asked = web.gets(".tar")
    assert main([*command, "--max-length", "32", "--cache", str(tmp_path / "b")]) == 0
    assert web.gets(".tar") == asked == 4
    capsys.readouterr()
    assert main([*command, "--shard-cache-limit", "plenty"]) == 2
    assert "--shard-cache-limit: not a size" in capsys.readouterr().err
    assert main([*command[:-2], "--shard-cache-limit", "1 GB"]) == 2
    assert "--shard-cache-limit: it would have no effect" in capsys.readouterr().err
    assert main([*command[:-1], "s3://bucket/x"]) == 2
    assert "--shard-cache: not a folder on this machine" in capsys.readouterr().err


def test_a_run_reads_remote_shards_through_the_cache(
    web: Any, remote: str, small_corpus: Any, tmp_path: Path
) -> None:
    """The encoded data is that of the local source."""
    changes: dict[str, Any] = {
        "headrace.data.train": {"en": f"{remote}/en/train"},
        "headrace.data.validation": {"en": f"{remote}/en/dev"},
        "headrace.data.shard_cache": {"folder": str(tmp_path / "shards"), "limit": "1 GB"},
        "headrace.data.cache_dir": str(tmp_path / "encoded"),
        "headrace.stages": [{"name": "one", "epochs": 1}],
    }
    path = small_corpus.write_config(tmp_path / "run.json", tmp_path / "run", **changes)
    config = load_run_config(path)
    data = encode_data(open_data(config), config)
    assert len(list((tmp_path / "shards").rglob("*.tar"))) == 5
    assert web.gets(".tar") == 5
    changes |= {
        "headrace.data.train": {"en": small_corpus.source("en", "train")},
        "headrace.data.validation": {"en": small_corpus.source("en", "dev")},
    }
    local = load_run_config(small_corpus.write_config(path, tmp_path / "run", **changes))
    expected = encode_data(open_data(local), local)
    for mine, theirs in zip(data.train["en"].shards, expected.train["en"].shards, strict=True):
        assert (mine.array("tokens") == theirs.array("tokens")).all()
        assert (mine.array("labels") == theirs.array("labels")).all()


def test_copies_lie_on_the_disk_of_the_node_if_a_job_has_one(
    small_corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = {"folder": str(tmp_path / "shared"), "limit": "1 GB"}
    written = [
        small_corpus.write_config(tmp_path / f"{name}.json", tmp_path / "run", **changes)
        for name, changes in (("with", {"headrace.data.shard_cache": cache}), ("without", {}))
    ]
    with_cache, without = map(load_run_config, written)
    found = cache_of_run(with_cache)
    assert found is not None
    assert found.folder == tmp_path / "shared"
    monkeypatch.setenv("HEADRACE_LOCAL_SCRATCH", str(tmp_path / "node"))
    found = cache_of_run(with_cache)
    assert found is not None
    assert (found.folder, found.limit_bytes) == (tmp_path / "node" / "shards", 10**9)
    assert cache_of_run(without) is None, "only what is asked for is copied"
