"""Real signals to this process, to its children, and to both."""

import os
import signal
import subprocess
import sys
import time

import pytest

from headrace.training.signals import STOP_SIGNALS, StopFlag


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_flag_keeps_the_signal_that_came(number):
    with StopFlag() as flag:
        assert flag.received is None
        os.kill(os.getpid(), number)
        wait_for(lambda: flag.received is not None)
        assert flag.received is number


def test_a_second_signal_says_that_the_run_is_stopping(capfd):
    with StopFlag() as flag:
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_for(lambda: flag.received is signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: flag.received is signal.SIGTERM)
    first, second = capfd.readouterr().err.strip().splitlines()[::2]
    assert first.startswith("headrace: SIGUSR1: a checkpoint is saved as soon as")
    assert second.startswith("headrace: SIGTERM: already stopping since SIGUSR1")


def test_processes_that_a_run_has_started_outlive_the_signal_of_the_scheduler():
    """As of a logger, or of a compiler: SLURM sends SIGUSR1 to every process of a step."""
    command = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    with StopFlag() as flag:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_for(lambda: flag.received is not None)
        assert child.poll() is None
        child.terminate()  # which goes on to work
        assert child.wait(60) == -signal.SIGTERM


def test_afterwards_signals_are_as_they_were():
    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with StopFlag():
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == handlers
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
