from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from headrace.corpus.building.parts import FILE_BYTES, cut
from headrace.corpus.building.shard_work import plan_shards
from headrace.corpus.recipe import InputFile, Stamp


@st.composite
def files(draw):
    found = []
    for number in range(draw(st.integers(0, 3))):
        for place in range(draw(st.integers(0, 4))):
            size = draw(st.integers(0, 1_000_000))
            steps = sorted(draw(st.sets(st.integers(1, max(1, size - 1)), max_size=4)))
            bounds = [0, *(step for step in steps if step < size), None]
            ranges = list(pairwise(bounds))
            found.append(
                (InputFile(number, f"/{number}/{place}", str(place), Stamp(size, "")), ranges)
            )
    return found


@given(files(), st.integers(1, 2_000_000))
def test_parts_have_every_range_once_in_order_and_one_source_each(given_files, size):
    parts = cut(given_files, size)
    slices = [one for part in parts for one in part.slices]
    assert [(one.file, (one.start, one.end)) for one in slices] == [
        (file, bounds) for file, ranges in given_files for bounds in ranges
    ]
    assert [part.number for part in parts] == list(range(len(parts)))
    for part in parts:
        assert len({one.file.source for one in part.slices}) == 1
        assert len(part.slices) == 1 or part.size + FILE_BYTES * len(part.slices) <= size


@given(
    st.lists(st.dictionaries(st.sampled_from(["de", "en", "hi"]), st.integers(1, 50)), max_size=8),
    st.integers(1, 40),
)
def test_shards_have_every_document_once_in_order_and_are_full_but_for_the_last(counts, size):
    plans = plan_shards(counts, size)
    for language in ("de", "en", "hi"):
        own = [plan for plan in plans if plan.language == language]
        assert [plan.number for plan in own] == list(range(len(own)))
        dealt = [
            (piece.part, piece.first + i)
            for plan in own
            for piece in plan.pieces
            for i in range(piece.count)
        ]
        assert dealt == [
            (part, i) for part, row in enumerate(counts) for i in range(row.get(language, 0))
        ]
        sizes = [sum(piece.count for piece in plan.pieces) for plan in own]
        assert all(one == size for one in sizes[:-1])
        assert all(0 < one <= size for one in sizes)
