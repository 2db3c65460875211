"""A request to stop: kept until a loop looks, and passed on to the ranks however it came."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from train.node.signals import STOP_SIGNALS, StopRequest, StopWatch

WITHIN_S = 10.0


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The handlers and the mask of this process as they were before."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_sets_the_request(number: signal.Signals):
    request = StopRequest()
    request.install()
    assert not request
    os.kill(os.getpid(), number)
    assert request
    assert request.reason == number.name


def test_the_first_signal_is_the_reason():
    request = StopRequest()
    request.install()
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGTERM)
    assert request.reason == "SIGUSR2"


def test_a_signal_that_was_held_back_arrives_at_installing():
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    # To this thread: others of the process do not hold it back.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    request = StopRequest()
    request.install()
    assert request.reason == "SIGTERM"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch looks often, and may end: in a job it does not."""
    monkeypatch.setattr(StopWatch, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)


def ended(watch: StopWatch) -> bool:
    """Whether a watch ends; the main thread does not wait in one call, so that it handles signals."""
    deadline = time.monotonic() + WITHIN_S
    while watch.is_alive() and time.monotonic() < deadline:
        watch.join(0.01)
    return not watch.is_alive()


class Ranks:
    """Keeps the signals of the ranks; ends the watch that sends the third one."""

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []

    def tell(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if len(self.signals) == 3:
            raise SystemExit


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", ["signal", "file"])
def test_a_request_is_noted_once_and_repeated_to_the_ranks(tmp_path: Path, way: str):
    notes: list[str] = []
    ranks = Ranks()
    watch = StopWatch(tmp_path / "stop", notes.append)
    watch.tell = ranks.tell
    watch.start()
    time.sleep(0.05)
    assert (watch.reason, notes, ranks.signals) == (None, [], [])
    if way == "file":
        (tmp_path / "stop").touch()
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended(watch)
    expected = signal.SIGUSR2 if way == "file" else signal.SIGTERM
    assert notes == [expected.name]
    assert ranks.signals == [expected] * 3


@pytest.mark.usefixtures("quick")
def test_ranks_that_start_after_the_request_are_told_too(tmp_path: Path):
    notes: list[str] = []
    (tmp_path / "stop").touch()
    watch = StopWatch(tmp_path / "stop", notes.append)
    watch.start()
    deadline = time.monotonic() + WITHIN_S
    while not notes and time.monotonic() < deadline:
        time.sleep(0.01)
    ranks = Ranks()
    watch.tell = ranks.tell
    assert ended(watch)
    assert ranks.signals == [signal.SIGUSR2] * 3
    assert notes == ["SIGUSR2"]


def test_a_process_asks_to_die_with_its_parent():
    get_signal = 2
    probe = f"""
import ctypes
from train.node.signals import die_with_parent
die_with_parent()
found = ctypes.c_int()
ctypes.CDLL(None).prctl({get_signal}, ctypes.byref(found))
print(found.value)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert int(done.stdout) == signal.SIGKILL
