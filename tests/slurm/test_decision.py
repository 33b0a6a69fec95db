"""What becomes of a job, from its starts alone."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.slurm.decision import (
    End,
    Limits,
    Start,
    decide,
    exit_code_of_ranks,
    has_own_fault,
    idle_starts,
    is_to_be_checked,
    no_progress,
)

LIMITS = Limits(idle_starts=4, retries=2, retry_seconds=60)


def starts(*ends):
    """Starts from (exit code, steps it made); a code of None was killed, "asked" ends with 1."""
    found, step = [], 0
    for code, made in ends:
        before, step = {"step": step}, step + made
        asked = code == "asked"
        end = None if code is None else End(1 if asked else code, asked, {"step": step})
        found.append(Start(before, end))
    return found


def test_done_is_the_end():
    decision = decide(starts((75, 5), (0, 5)), LIMITS)
    assert (decision.again, decision.exit_code) == (False, 0)


def test_a_mistake_of_the_user_is_never_repeated():
    decision = decide(starts((2, 0)), LIMITS)
    assert (decision.again, decision.exit_code) == (False, 2)


def test_a_stop_with_a_checkpoint_is_gone_on_with_at_once():
    decision = decide(starts(*[(75, 1)] * 50), LIMITS)
    assert (decision.again, decision.wait_seconds) == (True, 0)


def test_a_job_that_ends_badly_when_asked_to_stop_is_no_fault():
    assert decide(starts(("asked", 1)), LIMITS).again
    assert decide(starts(*[("asked", 1)] * 9), LIMITS).again


def test_faults_are_tried_again_with_longer_and_longer_waits_and_then_no_more():
    waits = [decide(starts(*[(1, 0)] * count), LIMITS).wait_seconds for count in (1, 2)]
    assert waits == [60, 120]
    decision = decide(starts(*[(1, 0)] * 3), LIMITS)
    assert (decision.again, decision.exit_code) == (False, 1)
    assert decision.reason == "3 faults without progress in between"


def test_faults_with_progress_in_between_are_counted_anew():
    assert decide(starts((1, 0), (1, 0), (1, 3)), LIMITS).wait_seconds == 60
    assert decide(starts((1, 0), (75, 3), (1, 0)), LIMITS).wait_seconds == 60
    many = decide(starts(*[(1, 5)] * 20), LIMITS)
    assert (many.again, many.wait_seconds) == (True, 60)


def test_no_job_goes_on_without_progress():
    assert decide(starts(*[(75, 0)] * 3), LIMITS).again
    decision = decide(starts(*[(75, 0)] * 4), LIMITS)
    assert (decision.again, decision.exit_code) == (False, 1)
    assert decision.reason == "no progress in 4 starts in a row"


def test_a_job_that_is_killed_again_and_again_is_not_started():
    killed = starts((75, 2), (None, 0), (None, 0), (None, 0), (None, 0))
    assert idle_starts(killed) == 3  # of the last one it is not known yet
    assert no_progress(killed, LIMITS) is None
    killed.append(Start({"step": 2}, None))
    assert no_progress(killed, LIMITS) == "no progress in 4 starts in a row"


def test_progress_of_a_killed_start_shows_at_the_next():
    assert idle_starts(starts((None, 0), (None, 7), (75, 0))) == 1


@given(st.lists(st.tuples(st.sampled_from([None, 1, 75, "asked"]), st.just(0)), min_size=4))
def test_whatever_happens_without_progress_ends(ends):
    ends[-1] = (75, 0)
    assert not decide(starts(*ends), LIMITS).again


def test_nodes_are_checked_at_first_and_behind_a_fault():
    assert is_to_be_checked([])
    assert is_to_be_checked(starts((75, 1), (1, 0)))
    for last in (75, "asked", None):
        assert not is_to_be_checked(starts((1, 0), (last, 1)))


def test_the_exit_code_of_a_launcher_is_read_with_those_of_the_ranks():
    assert exit_code_of_ranks(0, {}) == 0
    assert exit_code_of_ranks(75, {0: 75}) == 75
    assert exit_code_of_ranks(1, {0: 75}) == 75, "torch.distributed.run makes it 1"
    assert exit_code_of_ranks(143, {0: 75, 3: 143}) == 75, "it ended the others"
    assert exit_code_of_ranks(137, {2: 2, 0: 137}) == 2, "a rank alone has a wrong input"
    assert exit_code_of_ranks(137, {1: 137}) == 1
    assert exit_code_of_ranks(1, {1: 1, 0: 143}) == 1
    assert exit_code_of_ranks(75, {}) == 75, "a command without ranks"
    assert exit_code_of_ranks(139, {}) == 1


def test_ranks_that_were_killed_have_no_fault_of_their_own():
    assert not has_own_fault({})
    assert not has_own_fault({0: 143, 1: 137, 2: 75})
    assert has_own_fault({0: 1, 1: 143}), "as when the disk is too full for the checkpoint"
