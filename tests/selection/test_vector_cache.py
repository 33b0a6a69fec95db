"""The folder of the vectors on a disk that is too small, for each of what fills it."""

import subprocess
import sys
import textwrap

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

SCRIPT = textwrap.dedent("""
    import sys
    from pathlib import Path

    from headrace.errors import EncodingError
    from headrace.selection.doc2vec import Doc2VecSettings, embed_sources
    from headrace.selection.embed import embed_source
    from headrace.selection.encoder import Encoder, load_encoder
    from headrace.selection.parquet_vectors import open_parquet
    from headrace.shards import ShardReader

    disk, url, model, parquet = sys.argv[1:]
    reader, encoder = ShardReader(url), load_encoder(model, max_length=48)
    Encoder.embed = None  # would fail if it were called: the disk is too small for the result
    for fill in (
        lambda: embed_source(reader, encoder, f"{disk}/e", name="en"),
        lambda: embed_sources({"en": reader}, Doc2VecSettings(vector_size=100), f"{disk}/large"),
        lambda: embed_sources({"en": reader}, Doc2VecSettings(vector_size=4), f"{disk}/words"),
        lambda: open_parquet(parquet, f"{disk}/p", "vectors"),
    ):
        try:
            fill()
        except EncodingError as error:
            print(error)
        held = [path.name for path in Path(disk).rglob("*") if path.is_file()]
        print("left", sum(path.stat().st_size for path in Path(disk).rglob("*.tmp*")), held)
""")


@pytest.mark.slow
def test_a_full_disk_is_a_message_and_leaves_nothing_half_written(
    small_corpus, small_encoder, small_disk, tmp_path
):
    rows = np.ones((200, 32), np.float32)
    table = pyarrow.table({"vector": list(rows)})
    pyarrow.parquet.write_table(table, tmp_path / "v.parquet")
    done = subprocess.run(
        [
            *small_disk("8k"), sys.executable, "-c", SCRIPT, tmp_path / "small",
            small_corpus.source("en", "train"), small_encoder, tmp_path / "v.parquet",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the cache cannot be written: No space left on device") == 4
    assert done.stdout.count("left 0") == 4
    assert ".words" not in done.stdout
