"""Ready-made vectors in Parquet files against the table that was written."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from headrace.cli import main
from headrace.errors import EncodingError, SelectionError
from headrace.selection.inputs import from_files
from headrace.selection.parquet_vectors import open_parquet

KINDS = {
    "list<double>": pyarrow.list_(pyarrow.float64()),
    "large_list<float>": pyarrow.large_list(pyarrow.float32()),
    "fixed<halffloat>": pyarrow.list_(pyarrow.float16(), 3),
    "fixed<float>": pyarrow.list_(pyarrow.float32(), 3),
}


def write(file, rows, kind="list<double>", column="vector", **columns):
    columns[column] = pyarrow.array(rows, KINDS[kind])
    pyarrow.parquet.write_table(pyarrow.table(columns), file, row_group_size=4)
    return str(file)


@pytest.fixture
def rows():
    return np.random.default_rng(0).standard_normal((10, 3)).astype(np.float16)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_list(rows, kind, tmp_path):
    path = write(tmp_path / "v.parquet", list(rows), kind)
    found = open_parquet(path, tmp_path / "cache", "vectors")
    assert found.vectors.dtype == (np.float16 if "half" in kind else np.float32)
    np.testing.assert_array_equal(found.vectors, rows)
    assert (found.ids, found.groups, found.costs) == (None, None, None)


def test_other_columns_and_names(rows, tmp_path):
    ids = [f"k{number}é" for number in range(10)]
    languages = pyarrow.array(["en", "hi"] * 5).dictionary_encode()
    path = write(
        tmp_path / "v.parquet", list(rows), column="e", id=ids, language=languages,
        tokens=pyarrow.array(range(1, 11), pyarrow.int16()),
    )  # fmt: skip
    inputs, _ = from_files(f"{path}:e", None, None, tmp_path / "cache")
    candidates = inputs.candidates
    assert [identifier.decode() for identifier in candidates.ids] == ids
    assert candidates.group_names == ("en", "hi")
    assert candidates.groups.tolist() == [0, 1] * 5
    assert candidates.costs.tolist() == list(range(1, 11))
    with pytest.raises(SelectionError, match=r"no column vector.*Columns: id, language, tokens, e"):
        from_files(path, None, None, tmp_path / "cache")


def test_several_files_are_one_table_in_the_order_of_their_names(rows, tmp_path):
    write(tmp_path / "b.parquet", list(rows[6:]), "fixed<float>", id=[6, 7, 8, 9])
    write(tmp_path / "a.parquet", list(rows[:6]), id=list(range(6)))
    for words in (str(tmp_path), str(tmp_path / "*.parquet")):
        inputs, _ = from_files(words, None, None, tmp_path / "cache")
        np.testing.assert_array_equal(inputs.vectors[:], rows)
        assert inputs.candidates.ids.tolist() == [str(number).encode() for number in range(10)]


def test_rows_without_a_vector_are_named(rows, tmp_path):
    values = [list(row) for row in rows.astype(float)]
    values[2], values[5], values[8] = None, [1.0, 2.0], [1.0, None, 2.0]
    path = write(tmp_path / "v.parquet", values, id=[f"s/{number}" for number in range(10)])
    with pytest.raises(SelectionError) as caught:
        from_files(path, None, None, tmp_path / "cache")
    assert {problem.value for problem in caught.value.problems} == {"s/2", "s/5", "s/8"}
    assert "null" in str(caught.value)
    assert "of 2 numbers" in str(caught.value)
    path = write(tmp_path / "v.parquet", values)
    with pytest.raises(SelectionError, match="row 5"):
        from_files(path, None, None, tmp_path / "cache")


def test_nan_and_zero_vectors_are_named_by_the_command(rows, tmp_path, capsys):
    rows[3], rows[4, 1] = 0, np.nan
    path = write(tmp_path / "v.parquet", list(rows), id=[f"s/{number}" for number in range(10)])
    words = ["select", "--vectors", path, "--rows", "2", "--cache", str(tmp_path / "cache")]
    assert main([*words, "--output", str(tmp_path / "selected")]) == 2
    error = capsys.readouterr().err
    assert "s/3" in error
    assert "s/4" in error


def test_the_command_chooses_from_parquet_as_from_npy(clusters, tmp_path):
    vectors = clusters(300, 3, 1)
    ids = [f"{'ab'[row % 2]}/{row:03}" for row in range(300)]
    path = write(tmp_path / "v.parquet", list(vectors), "fixed<float>", id=ids)
    np.save(tmp_path / "v.npy", vectors)
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
    chosen = []
    for name, words in (
        ("p", ["--vectors", path]),
        ("n", ["--vectors", str(tmp_path / "v.npy"), "--ids", str(tmp_path / "ids.txt")]),
    ):
        output = tmp_path / name
        words += ["--cache", str(tmp_path / "cache"), "--output", str(output)]
        assert main(["select", *words, "--rows", "20", "--minimum", "a=12"]) == 0
        chosen.append(pyarrow.parquet.read_table(output / "selection.parquet").to_pylist())
        assert json.loads((output / "selection.json").read_text())["groups"]["a"]["chosen"] >= 12
    assert chosen[0] == chosen[1]


def test_what_is_wrong_with_the_files(rows, tmp_path):
    for words, said in (
        (tmp_path / "nowhere.parquet", "no such file"),
        (tmp_path / "no*.parquet", "no such file"),
        (write(tmp_path / "i.parquet", list(rows), id=[None, *range(9)]), "has nulls"),
        (write(tmp_path / "n.parquet", list(rows), id=[*"abcdefghi", "a\0"]), "row 9"),
        (write(tmp_path / "o.parquet", list(rows), id=["", *"abcdefghi"]), "an id is empty"),
        (write(tmp_path / "c.parquet", list(rows), cost=["x"] * 10), "not integers"),
        (write(tmp_path / "e.parquet", []), "not a single row"),
        (write(tmp_path / "l.parquet", [[]] * 3), "without a number"),
    ):
        with pytest.raises(SelectionError, match=said):
            from_files(str(words), None, None, tmp_path / "cache")
    pyarrow.parquet.write_table(pyarrow.table({"vector": [1.0]}), tmp_path / "s.parquet")
    with pytest.raises(SelectionError, match="holds no vectors"):
        from_files(str(tmp_path / "s.parquet"), None, None, tmp_path / "cache")
    folder = tmp_path / "mixed"
    folder.mkdir()
    write(folder / "a.parquet", list(rows), "fixed<float>", id=list(range(10)))
    write(folder / "b.parquet", [[1.0, 2.0]] * 2)
    with pytest.raises(SelectionError, match="no column id"):
        from_files(str(folder), None, None, tmp_path / "cache")


def test_damaged_files_are_refused(rows, tmp_path):
    path = tmp_path / "v.parquet"
    write(path, list(np.tile(rows, (500, 1))))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SelectionError, match="cannot be read as Parquet"):
        from_files(str(path), None, None, tmp_path / "cache")
    damaged = bytearray(whole)
    damaged[4:2000] = bytes(1996)  # the pages of the first row groups
    path.write_bytes(damaged)
    with pytest.raises(SelectionError, match="cannot be read as Parquet"):
        from_files(str(path), None, None, tmp_path / "cache")


def test_the_copy_is_used_again_and_made_again_when_it_is_damaged(rows, tmp_path, caplog):
    path = write(tmp_path / "v.parquet", list(rows))
    found = open_parquet(path, tmp_path / "cache", "vectors")
    copy = tmp_path / "cache" / found.fingerprint / "vectors.npy"
    made = copy.stat().st_ino
    open_parquet(path, tmp_path / "cache", "vectors")
    assert copy.stat().st_ino == made
    content = bytearray(copy.read_bytes())
    content[-1] ^= 0xFF
    copy.write_bytes(content)
    again = open_parquet(path, tmp_path / "cache", "vectors")
    assert "not what was written" in caplog.text
    np.testing.assert_array_equal(again.vectors, rows)
    write(tmp_path / "v.parquet", list(rows[::-1]))
    other = open_parquet(path, tmp_path / "cache", "vectors")
    assert other.fingerprint != found.fingerprint
    np.testing.assert_array_equal(other.vectors, rows[::-1])


def test_a_cache_that_cannot_be_written(rows, tmp_path):
    path = write(tmp_path / "v.parquet", list(rows))
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(EncodingError, match="cannot be written"):
        from_files(path, None, None, tmp_path / "cache")


def test_memory_is_bounded_by_a_batch_and_not_by_a_row_group(tmp_path):
    """128 MiB of vectors in one row group; Arrow never holds a quarter of them."""
    values = np.random.default_rng(0).random((1 << 17, 256), np.float32)
    table = pyarrow.table({"vector": pyarrow.FixedSizeListArray.from_arrays(values.ravel(), 256)})
    pyarrow.parquet.write_table(table, tmp_path / "v.parquet", row_group_size=1 << 20)
    script = textwrap.dedent("""
        import sys
        import pyarrow
        from headrace.selection.parquet_vectors import open_parquet

        found = open_parquet(sys.argv[1], sys.argv[2], "vectors")
        print(pyarrow.default_memory_pool().max_memory(), found.vectors[-1, -1])
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "v.parquet"), str(tmp_path / "cache")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    peak, last = done.stdout.split()
    assert float(last) == pytest.approx(float(values[-1, -1]))
    assert int(peak) < values.nbytes / 4
