"""A request to stop sets a flag; where nothing needs saving it ends the process from the inside."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rfdetr_hwd.errors import STOP_SIGNALS, Interrupted
from rfdetr_hwd.runtime import interrupt
from rfdetr_hwd.runtime.interrupt import StopRequest


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_a_flag_until_it_is_looked_at(number: int) -> None:
    before = [signal.getsignal(other) for other in STOP_SIGNALS]
    stop = StopRequest()
    with stop.listening():
        stop.check()
        signal.raise_signal(number)
        assert stop.code_on_any_rank() == 128 + number
        signal.raise_signal(signal.SIGTERM)  # the launcher hands on what the scheduler sent to all
        assert stop.code == 128 + number
        with pytest.raises(Interrupted) as caught:
            stop.check()
    assert caught.value.code == 128 + number
    assert [signal.getsignal(other) for other in STOP_SIGNALS] == before


def test_nohup_keeps_its_promise() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest().listening():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


PROGRAM = """
import signal, threading
from rfdetr_hwd.runtime import interrupt
interrupt.REPEAT_SECONDS = -1
stop = interrupt.StopRequest()
with stop.listening():
    signal.raise_signal(15)
    assert stop.code == 143
    signal.raise_signal(signal.SIGUSR1)
    threading.Event().wait()  # in native code, where no handler of Python runs
"""


def test_a_second_signal_leaves_at_once() -> None:
    assert subprocess.run([sys.executable, "-c", PROGRAM], timeout=120).returncode == 128 + signal.SIGUSR1


def test_at_once_it_ends_the_process_from_the_inside() -> None:
    stop = StopRequest()
    with stop.listening():
        with pytest.raises(Interrupted), stop.raise_immediately():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted), stop.raise_immediately():
            raise AssertionError("it was asked before")


def test_the_time_limit_counts_from_the_start_of_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    assert interrupt._started() >= now
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    started = []
    for process in (os.getpid(), 1):  # the first process of all is the older one
        monkeypatch.setattr(os, "getppid", lambda process=process: process)
        started.append(interrupt._started())
    assert now > started[0] > started[1]


def test_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now)
    stop = StopRequest(max_hours=0.5)
    now += 1799
    assert stop.code == 0
    now += 1
    assert stop.code == 124
