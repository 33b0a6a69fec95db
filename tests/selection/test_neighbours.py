"""The neighbour graph against brute force; whole after a kill, made again where it is damaged."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from headrace.cli import main
from headrace.errors import MissingExtraError, SelectionError
from headrace.selection import IndexSettings, graph_files, neighbour_graph, neighbours
from headrace.selection.vectors import Stack


@pytest.fixture
def parts_written(monkeypatch):
    """Pairs of a block and a chunk that were searched."""
    written = []
    plain = graph_files.GraphFiles.write_part

    def write_part(files, block, chunk, *arrays):
        written.append((block, chunk))
        plain(files, block, chunk, *arrays)

    monkeypatch.setattr(graph_files.GraphFiles, "write_part", write_part)
    return written


def brute_force(vectors: np.ndarray, count: int) -> np.ndarray:
    """``[rows, count]``: the largest cosines of each row with others."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    matrix = unit @ unit.T
    np.fill_diagonal(matrix, -2)
    return -np.sort(-matrix, axis=1)[:, :count]


def same(one, other) -> bool:
    return np.array_equal(one.indices, other.indices) and np.array_equal(
        one.similarities, other.similarities
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block", [100, 333, 1000])
def test_a_flat_graph_is_exact_however_it_is_cut(clusters, block, dtype):
    vectors = clusters(1000, 24, 0, mixed=True, dtype=dtype)
    graph = neighbour_graph(vectors, IndexSettings("flat", neighbours=20, block=block))
    np.testing.assert_allclose(graph.similarities, brute_force(vectors, 20), atol=1e-6)
    unit = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    found = np.einsum("ijk,ik->ij", unit[graph.indices], unit)
    np.testing.assert_allclose(found, graph.similarities, atol=1e-6)
    assert (graph.indices != np.arange(1000)[:, None]).all()
    assert (graph.facts.index, graph.facts.recall) == ("flat", 1.0)
    assert same(graph, neighbour_graph(vectors, IndexSettings("flat", neighbours=20, block=1000)))


@pytest.mark.parametrize("kind", ["ivf", "hnsw", "nn_descent"])
def test_recall_is_that_of_brute_force(clusters, kind):
    vectors = clusters(2400, 16, 1)
    few = IndexSettings(kind, neighbours=8, block=1200, probes=4, links=8, width=24)
    graph = neighbour_graph(vectors, few)
    near = brute_force(vectors, 8)[:, -1:] - 1e-6
    true = (np.where(graph.indices < 0, -2, graph.similarities) >= near).mean()
    assert graph.facts.recall == pytest.approx(true, abs=0.05)
    assert 0.5 < true < 1
    assert same(graph, neighbour_graph(vectors, few))
    better = neighbour_graph(vectors, IndexSettings(kind, neighbours=8, block=1200))
    assert graph.facts.recall < better.facts.recall
    assert better.facts.recall > 0.97


def test_equal_rows_are_in_the_order_of_their_ties(clusters):
    some = clusters(50, 8, 2, mixed=True)
    vectors = np.concatenate([some, some, some])
    ties = np.random.default_rng(0).permutation(150)
    graph = neighbour_graph(vectors, IndexSettings(neighbours=6, block=40), ties=ties)
    for row in range(150):
        others, similarities = graph.indices[row], graph.similarities[row]
        order = np.lexsort((ties[others], -similarities))
        np.testing.assert_array_equal(order, np.arange(6))
        np.testing.assert_array_equal(similarities, graph.similarities[row % 50])
        assert row % 50 in others[similarities == similarities[0]] % 50
    both = {
        (row, int(other)): similarity
        for row in range(150)
        for other, similarity in zip(graph.indices[row], graph.similarities[row], strict=True)
    }
    assert any((j, i) in both for i, j in both)
    assert all(both[j, i] == s for (i, j), s in both.items() if (j, i) in both)


def test_a_graph_is_kept_and_other_settings_make_another(clusters, tmp_path, parts_written):
    vectors = clusters(300, 8, 3)
    first = neighbour_graph(vectors, IndexSettings(neighbours=5, block=100), cache=tmp_path)
    assert len(parts_written) == 3
    again = neighbour_graph(vectors, IndexSettings(neighbours=5, block=100), cache=tmp_path)
    assert len(parts_written) == 3
    assert same(first, again)
    assert again.facts == first.facts
    changed = vectors.copy()
    changed[0] *= -1
    fingerprints = {
        neighbour_graph(table, settings, cache=tmp_path, ties=ties).fingerprint
        for table, settings, ties in (
            (vectors, IndexSettings(neighbours=5, block=100), None),
            (changed, IndexSettings(neighbours=5, block=100), None),
            (vectors, IndexSettings(neighbours=6, block=100), None),
            (vectors, IndexSettings("ivf", neighbours=5, block=100), None),
            (vectors, IndexSettings(neighbours=5, block=100), np.arange(300)[::-1]),
        )
    }
    assert len(fingerprints) == 5
    assert not list(tmp_path.glob("*/parts"))


@pytest.mark.parametrize("file", ["indices", "similarities"])
def test_damaged_rows_are_looked_for_again(
    clusters, tmp_path, monkeypatch, parts_written, caplog, file
):
    monkeypatch.setattr(neighbours, "CHUNK", 100)
    vectors = clusters(300, 8, 3)
    settings = IndexSettings(neighbours=5, block=150)
    first = neighbour_graph(vectors, settings, cache=tmp_path)
    expected = neighbours.NeighbourGraph(
        np.array(first.indices), np.array(first.similarities), first.facts, first.fingerprint
    )
    (path,) = tmp_path.glob(f"*/{file}.npy")
    content = bytearray(path.read_bytes())
    content[-7] ^= 0x10  # in the last chunk
    path.write_bytes(content)
    parts_written.clear()
    again = neighbour_graph(vectors, settings, cache=tmp_path)
    assert parts_written == [(0, 2), (1, 2)]
    assert "not what was written" in caplog.text
    assert same(again, expected)

    path.write_bytes(path.read_bytes()[:-1])
    assert same(neighbour_graph(vectors, settings, cache=tmp_path), expected)
    shutil.rmtree(path.parent / "done")
    assert same(neighbour_graph(vectors, settings, cache=tmp_path), expected)


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_a_killed_process_loses_the_part_in_hand(clusters, tmp_path, parts_written, kind, caplog):
    vectors = clusters(4800, 8, 4)
    np.save(tmp_path / "vectors.npy", vectors)
    script = textwrap.dedent("""
        import os, signal, sys
        import numpy as np
        from headrace.selection import IndexSettings, graph_files, neighbour_graph

        plain = graph_files.GraphFiles.write_part

        def write_part(files, block, chunk, *arrays):
            if block == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            plain(files, block, chunk, *arrays)

        graph_files.GraphFiles.write_part = write_part
        settings = IndexSettings(sys.argv[3], neighbours=5, block=1200)
        neighbour_graph(np.load(sys.argv[1]), settings, cache=sys.argv[2])
    """)
    killed = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "vectors.npy", tmp_path / "killed", kind],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    (part,) = (tmp_path / "killed").glob("*/parts/1-0")
    part.write_bytes(part.read_bytes()[:-3] + b"abc")
    settings = IndexSettings(kind, neighbours=5, block=1200)
    graph = neighbour_graph(vectors, settings, cache=tmp_path / "killed")
    assert parts_written == [(1, 0), (2, 0), (3, 0)]
    assert "1-0 is made again" in caplog.text
    assert same(graph, neighbour_graph(vectors, settings, cache=tmp_path / "whole"))


def test_a_full_disk_is_noticed_before_the_work(clusters, tmp_path, parts_written):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limit[1]))
    try:
        with pytest.raises(SelectionError, match="cannot be written"):
            neighbour_graph(clusters(500, 8, 0), cache=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert parts_written == []


def test_what_is_wrong_is_refused_at_once(clusters):
    vectors = clusters(50, 8, 0)
    with pytest.raises(SelectionError) as caught:
        neighbour_graph(vectors, IndexSettings(neighbours=0, block=0, lists=-1))
    assert [problem.where for problem in caught.value.problems] == ["neighbours", "block", "lists"]
    vectors[[7, 9]] = 0
    with pytest.raises(SelectionError, match="row 7, row 9"):
        neighbour_graph(vectors)
    with pytest.raises(SelectionError, match="no neighbours to look for"):
        neighbour_graph(vectors[:1])


def test_the_graph_of_several_tables_is_that_of_one(clusters):
    vectors = clusters(60, 8, 2).astype(np.float16)
    parts = Stack([vectors[:25], vectors[25:]], ["en", "hi"])
    settings = IndexSettings(neighbours=59)  # where FAISS has less than it is asked for
    one, several = neighbour_graph(vectors, settings), neighbour_graph(parts, settings)
    np.testing.assert_array_equal(one.indices, several.indices)
    np.testing.assert_array_equal(one.similarities, several.similarities)


def test_without_faiss_the_extra_is_named(clusters, tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "vectors.npy", clusters(50, 8, 0))
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'headrace\[faiss\]'"):
        neighbour_graph(np.load(tmp_path / "vectors.npy"))
    command = [
        "select", "--vectors", str(tmp_path / "vectors.npy"), "--objective", "facility_location",
        "--rows", "5", "--trade-off", "much", "--output", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert "headrace[faiss]" in errors
    assert "--trade-off: not a number" in errors
