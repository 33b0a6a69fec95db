"""Who is behind, decided from what ranks last said; and the clock that durations come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.training.watch.activity import Activity
from headrace.training.watch.awake import AwakeClock
from headrace.training.watch.files import Heartbeat
from headrace.training.watch.verdict import Sighting, judge, rank_ranges, ranks_behind

ALLOWED = 600.0


def beat(rank, position=7, seconds=700.0, waits_in=None, **others):
    said = {
        "host": f"node{rank}",
        "pid": 1000 + rank,
        "beat": 3,
        "phase": "data",
        "branch": "multilingual/all",
        "step": 120,
        "allowance": ALLOWED,
        "at": None,
    } | others
    return Heartbeat(rank=rank, position=position, seconds=seconds, waits_in=waits_in, **said)


def waiting(rank, position=9):
    return Sighting(beat(rank, position, 605.0, "all-reduce", phase="backward"))


@st.composite
def crowds(draw):
    """Ranks in any state, in any order."""
    count = draw(st.integers(1, 6))
    return [
        Sighting(
            beat(
                rank,
                draw(st.integers(0, 3)),
                draw(st.floats(0, 2000)),
                draw(st.sampled_from([None, "all-reduce", "barrier"])),
                allowance=draw(st.sampled_from([None, 600.0, 3600.0])),
            ),
            quiet=draw(st.sampled_from([0.0, 0.0, 0.0, 400.0])),
        )
        for rank in draw(st.permutations(range(count)))
    ]


@given(crowds())
def test_nobody_is_named_who_may_take_longer(crowd):
    """Neither while those who are behind have time left, nor if they are not watched."""
    patient = [
        sighting
        for sighting in ranks_behind(crowd) or crowd
        if sighting.heartbeat.allowance is None
        or sighting.seconds < sighting.heartbeat.allowance / (2 if sighting.quiet else 1)
    ]
    said = judge(crowd)
    if len(patient) == len(ranks_behind(crowd) or crowd):
        assert said is None
    for sighting in patient if ranks_behind(crowd) else []:
        assert said is None or f"rank {sighting.heartbeat.rank} on" not in said


@given(crowds(), st.randoms())
def test_the_order_of_the_ranks_does_not_matter(crowd, chance):
    mixed = list(crowd)
    chance.shuffle(mixed)
    by_rank = {sighting.heartbeat.rank for sighting in ranks_behind(crowd)}
    assert {sighting.heartbeat.rank for sighting in ranks_behind(mixed)} == by_rank
    assert (judge(crowd) is None) == (judge(mixed) is None)


@given(st.integers(2, 40), st.data())
def test_one_rank_that_stays_behind_is_named(count, data):
    """Whether it is slow to enter a phase, or the only one of its phase that does not wait."""
    culprit = data.draw(st.integers(0, count - 1))
    earlier = data.draw(st.booleans())
    crowd = [waiting(rank) for rank in range(count)]
    crowd[culprit] = Sighting(beat(culprit, 7 if earlier else 9, 605.0))
    said = judge(crowd)
    assert [sighting.heartbeat.rank for sighting in ranks_behind(crowd)] == [culprit]
    assert f"rank {culprit} on node{culprit}" in said
    others = rank_ranges(rank for rank in range(count) if rank != culprit)
    assert f"{others} wait" in said


def test_the_message_says_who_where_what_and_what_the_others_wait_for():
    crowd = [
        waiting(0),
        waiting(1),
        waiting(2),
        Sighting(beat(3, 7, 610.0, at="stream/loader.py:58 (__next__)")),
    ]
    assert judge(crowd) == (
        "rank 3 on node3 (pid 1003) has been in data of step 120 (multilingual/all) for 610 s, at "
        "stream/loader.py:58 (__next__); ranks 0-2 wait in the all-reduce of backward of step 120 "
        "(multilingual/all)"
    )


def test_a_rank_without_a_heartbeat_is_named_wherever_it_was():
    """Also if its last word was that it waits, and others seem to be behind it."""
    crowd = [waiting(0, 7), Sighting(beat(1, 9, 5.0, "all-reduce"), quiet=301.0, state="stopped")]
    said = judge(crowd)
    assert "rank 1 on node1" in said
    assert "its process is stopped" in said
    assert "rank 0 waits in the all-reduce" in said


def test_a_rank_that_lost_its_heartbeat_just_now_is_given_time():
    crowd = [waiting(0), Sighting(beat(1, 7, 5.0), quiet=100.0)]
    assert judge(crowd) is None


def test_a_slow_phase_is_waited_for():
    saving = beat(1, 7, 1800.0, phase="saving", allowance=3600.0)
    assert judge([waiting(0), Sighting(saving)]) is None
    assert judge([waiting(0), Sighting(beat(1, 7, 3601.0, allowance=3600.0))]) is not None


def test_all_ranks_at_one_place_are_a_hang_without_a_culprit():
    said = judge([waiting(0), waiting(1)])
    assert said.endswith("no rank is behind the others")
    assert "ranks 0-1 wait in the all-reduce" in said


def test_a_rank_that_stands_still_where_each_works_by_itself_is_named():
    """Unless the others have hardly moved either, and may be waiting for it or it for them."""
    still, moving = Sighting(beat(0, 7)), Sighting(beat(1, 7, 2.0))
    assert "rank 0 on node0" in judge([still, moving])
    assert "rank 1 is in data" in judge([still, moving])
    assert judge([still, Sighting(beat(1, 7, 599.0))]) is None


def test_many_culprits_are_not_all_named():
    crowd = [Sighting(beat(rank)) for rank in range(20)] + [waiting(20)]
    said = judge(crowd)
    assert said.count("(pid") == 8
    assert "12 more" in said


@given(st.sets(st.integers(0, 60), min_size=1))
def test_ranges_of_ranks_can_be_read_back(ranks):
    word, _, text = rank_ranges(ranks).partition(" ")
    found = set()
    for part in text.split(", "):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == ranks
    assert word == ("rank" if len(ranks) == 1 else "ranks")


def test_positions_grow_and_ticks_belong_to_a_phase():
    activity = Activity()
    with activity.training("multilingual/all"):
        activity.enter("data", 3)
        first = activity.now
        activity.tick()
        activity.tick()
        assert (activity.now.position, activity.now.ticks) == (first.position, 2)
        activity.enter("saving", slow=True)
    assert (activity.now.position, activity.now.ticks) == (first.position + 1, 0)
    assert str(first) == "data of step 3 (multilingual/all)"
    activity.enter("waiting")
    assert str(activity.now) == "waiting"


@given(st.lists(st.floats(-1e6, 1e6), max_size=30))
def test_a_clock_that_jumps_moves_the_awake_clock_by_two_pauses_at_most(jumps):
    times = iter([0.0, *jumps])
    clock = AwakeClock(5.0, clock=lambda: next(times))
    before = 0.0
    for _ in jumps:
        now = clock.look()
        assert before <= now <= before + 10.0
        before = now


def test_the_awake_clock_counts_as_the_clock_it_looks_at():
    times = iter([100.0, 105.0, 111.0, 112.0])
    clock = AwakeClock(5.0, clock=lambda: next(times))
    assert [clock.look() for _ in range(3)] == pytest.approx([5.0, 11.0, 12.0])
