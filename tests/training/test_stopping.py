"""Stop signals while ranks work by themselves, with real signals to this process."""

import os
import signal
import time
from contextlib import suppress

import numpy as np
import pytest
import torch

from headrace.errors import UserError
from headrace.selection.ranks import Ranks
from headrace.training import stopping
from headrace.training.distributed import World
from headrace.training.signals import StopFlag
from headrace.training.stopping import StoppableRanks, stopping_alone

LONG = 60.0


@pytest.fixture
def world():
    return World(rank=1, size=2, device=torch.device("cpu"))


@pytest.fixture
def stop_flag():
    with StopFlag() as flag:
        yield flag


def send(number, flag=None):
    """Send a signal to this process, which another thread takes; wait until the flag is set."""
    os.kill(os.getpid(), number)
    end = time.monotonic() + LONG
    while flag is not None and flag.received is None:
        assert time.monotonic() < end
        time.sleep(0.001)


def work(received=None):
    """Some time of it, with a signal at its start."""
    if received is not None:
        send(received)
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        time.sleep(0.01)
    raise AssertionError("nobody broke the work off")


def work_that_loses_errors():
    for _ in range(2):
        with suppress(UserError):  # as in a finaliser
            work(signal.SIGUSR1)
    work()


def test_a_signal_breaks_the_work_off_and_tells_the_other_ranks(stop_flag, world, tmp_path):
    marker = tmp_path / "stop"
    with (
        pytest.raises(UserError, match="stopped by a signal"),
        stopping_alone(stop_flag, marker, world),
    ):
        work(signal.SIGTERM)
    assert marker.exists()
    os.kill(os.getpid(), signal.SIGTERM)  # behind the block a signal raises nothing


def test_a_signal_to_another_rank_breaks_the_work_off(stop_flag, world, tmp_path):
    marker = tmp_path / "stop"
    marker.touch()
    with pytest.raises(UserError), stopping_alone(stop_flag, marker, world):
        work()


def test_a_signal_from_before_the_work_keeps_it_from_beginning(stop_flag, world, tmp_path):
    send(signal.SIGUSR1, stop_flag)
    with pytest.raises(UserError), stopping_alone(stop_flag, tmp_path / "stop", world):
        raise AssertionError("it has begun")
    assert (tmp_path / "stop").exists()


def test_what_is_raised_where_it_is_lost_is_raised_again(stop_flag, world, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "_AGAIN_SECONDS", 0.1)
    with pytest.raises(UserError), stopping_alone(stop_flag, tmp_path / "stop", world):
        work_that_loses_errors()


def test_work_that_is_not_stopped_ends_as_it_would(stop_flag, world, tmp_path):
    with stopping_alone(stop_flag, tmp_path / "stop", world):
        pass
    assert not (tmp_path / "stop").exists()


def test_collectives_raise_once_a_signal_has_arrived(stop_flag):
    ranks = StoppableRanks(Ranks(), stop_flag)
    values = np.arange(3)
    assert ranks.sum(values) is ranks.max(values) is ranks.gather(values) is values
    send(signal.SIGUSR1, stop_flag)
    for collective in (ranks.sum, ranks.max, ranks.gather):
        with pytest.raises(UserError):
            collective(values)
