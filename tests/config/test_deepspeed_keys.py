"""The list of DeepSpeed's keys against the DeepSpeed that is installed."""

import pytest

from headrace.config.deepspeed_keys import TOP_LEVEL_KEYS

runtime_config = pytest.importorskip("deepspeed.runtime.config")


def test_no_key_that_deepspeed_removed_is_accepted():
    assert not TOP_LEVEL_KEYS & set(runtime_config._REMOVED_TOP_LEVEL_CONFIG_KEYS)


def test_every_accepted_key_is_read_somewhere_in_deepspeed():
    from pathlib import Path

    import deepspeed

    sources = "\n".join(
        path.read_text(encoding="utf-8", errors="replace")
        for part in ("runtime", "monitor", "comm", "profiling", "autotuning", "compile", "utils",
                     "datastates", "inference", "module_inject", "moe")
        for path in (Path(deepspeed.__file__).parent / part).rglob("*.py")
    )  # fmt: skip
    unread = {
        key for key in TOP_LEVEL_KEYS if f'"{key}"' not in sources and f"'{key}'" not in sources
    }
    assert not unread
