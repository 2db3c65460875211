"""The process that starts ranks: what a rank gets from it, and what becomes of whom when one is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from train.node.starter import (
    Exit,
    ImportsFailedError,
    ServerDiedError,
    Starter,
    StartMethod,
)
from train.node.supervise import GRACE_S, supervise

ROOT = Path(__file__).resolve().parents[3]
MODULE = "tests.train.node.code_rank"
ENVIRON = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OF_ALL": "all", "OF_SERVER": "server"}
WITHIN_S = 20.0
Make = Callable[..., Starter]
SLEEP = "import time; time.sleep(60)"


@pytest.fixture
def starter() -> Iterator[Make]:
    """Makes starters, and ends what a test left of them."""
    made = []

    def make(method: StartMethod = "fork", kind: str = "", *, ready: bool = True) -> Starter:
        made.append(Starter(method, MODULE, [kind] if kind else [], ENVIRON))
        if ready:
            made[-1].wait_ready(WITHIN_S)
        return made[-1]

    yield make
    for one in made:
        one.close()


def run(server: Starter, log: Path, code: str, **environ: str) -> Exit:
    """Start a rank and wait for its end."""
    server.start([code], environ, log)
    found = server.next_exit(WITHIN_S)
    assert found
    return found


def gone(pid: int) -> bool:
    """Whether a process ended, in a while."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_rank_has_its_own_session_log_and_variables(
    starter: Make, tmp_path: Path, method: StartMethod
) -> None:
    server, log = starter(method), tmp_path / "rank_3.log"
    code = "report(); import os; os.system('echo from a child; echo error >&2')"
    ended = run(server, log, code, RANK="3", OF_ALL="mine")
    assert ended.code == 0
    lines = log.read_text().splitlines()
    assert lines[1:] == ["from a child", "error"]
    facts = json.loads(lines[0])
    assert facts["pid"] == facts["session"] == facts["group"] == ended.pid
    assert facts["cores"] == sorted(os.sched_getaffinity(0))
    assert facts["variables"] == {"RANK": "3", "OF_ALL": "mine", "OF_SERVER": "server"}
    assert facts["held"] == [True, True], "a stop request could kill a rank that has no handler yet"
    assert facts["input"] == ""
    assert facts["umask"] == os.umask(facts["umask"])
    assert facts["threads"] == 1


def test_a_rank_keeps_the_cores_of_its_agent(starter: Make, tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    os.sched_setaffinity(0, one)
    try:
        server = starter()
    finally:
        os.sched_setaffinity(0, cores)
    run(server, tmp_path / "log", "report()")
    assert json.loads((tmp_path / "log").read_text())["cores"] == sorted(one)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_rank_is_shown_by_its_own_command(starter: Make, tmp_path: Path, method: StartMethod) -> None:
    server = starter(method)
    pid = server.start([SLEEP, "7"], {}, tmp_path / "log")
    deadline = time.monotonic() + WITHIN_S
    wanted = ["-u", "-m", MODULE, SLEEP, "7"]
    while (words := [w for w in psutil.Process(pid).cmdline() if w][1:]) != wanted:
        assert time.monotonic() < deadline, words
        time.sleep(0.02)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_rank_inherits_the_socket_that_was_passed_for_it(
    starter: Make, tmp_path: Path, method: StartMethod
) -> None:
    """And nobody else: connections are refused after its end."""
    server, log = starter(method), tmp_path / "log"
    code = (
        "import os, socket; listener = socket.socket(fileno=int(os.environ['SHARDLINE_LISTENER']));"
        "listener.accept()[0].sendall(b'hello')"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        server.start([code], {}, log, listener)
    server.start([SLEEP], {}, log)
    with socket.create_connection(address, WITHIN_S) as connection:
        assert connection.recv(5) == b"hello"
    assert server.next_exit(WITHIN_S)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, WITHIN_S)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_how_a_rank_ended_is_reported(starter: Make, tmp_path: Path, method: StartMethod) -> None:
    server, log = starter(method), tmp_path / "log"
    assert run(server, log, "pass").code == 0
    assert run(server, log, "import os; os._exit(75)").code == 75
    assert run(server, log, "import os; os.kill(os.getpid(), 9)").code == -signal.SIGKILL
    assert run(server, log, "raise ValueError('lost')").code == 1
    assert "ValueError: lost" in log.read_text()


def test_a_successor_starts_from_clean_memory(starter: Make, tmp_path: Path) -> None:
    server, log = starter(), tmp_path / "log"
    code = "import os; print(STATE, flush=True); STATE.append('spoilt'); os.kill(os.getpid(), 9)"
    for _ in range(3):
        assert run(server, log, code).code == -signal.SIGKILL
    assert log.read_text().splitlines() == ["['preloaded']"] * 3


def test_only_forked_ranks_are_preloaded(starter: Make, tmp_path: Path) -> None:
    run(starter("spawn"), tmp_path / "log", "print(STATE)")
    assert (tmp_path / "log").read_text() == "[]\n"


def test_forked_ranks_draw_their_own_numbers(starter: Make, tmp_path: Path) -> None:
    server = starter()
    for name in ("a", "b"):
        run(server, tmp_path / name, "import random; print(random.random())")
    assert (tmp_path / "a").read_text() != (tmp_path / "b").read_text()


def test_a_signal_reaches_every_rank(starter: Make, tmp_path: Path) -> None:
    server = starter()
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0) or None);"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM]); time.sleep(60)"
    )
    # Held back until the rank has its handler, so it may come at any time.
    pids = {server.start([code], {}, tmp_path / "log") for _ in range(2)}
    server.signal_all(signal.SIGTERM)
    ended = [server.next_exit(WITHIN_S) for _ in range(2)]
    assert {found.pid for found in ended if found} == pids
    assert -signal.SIGTERM not in [found.code for found in ended if found]


def test_sigkill_ends_what_a_rank_has_started_too(starter: Make, tmp_path: Path) -> None:
    server, log = starter(), tmp_path / "log"
    code = (
        f"import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); {SLEEP}"
    )
    server.start([code], {}, log)
    deadline = time.monotonic() + WITHIN_S
    while not (log.exists() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.signal_all(signal.SIGKILL)
    assert server.next_exit(WITHIN_S)
    assert gone(int(log.read_text()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_killed_server_takes_its_ranks_along(starter: Make, tmp_path: Path, method: StartMethod) -> None:
    server = starter(method)
    pid = server.start([SLEEP], {}, tmp_path / "log")
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(ServerDiedError, match="the process that starts the ranks was killed by SIGKILL"):
        server.next_exit(WITHIN_S)
    assert not server.is_alive()
    assert gone(pid)
    server.signal_all(signal.SIGTERM)
    with pytest.raises(ServerDiedError):
        server.start([SLEEP], {}, tmp_path / "log")


def test_a_killed_agent_takes_server_and_ranks_along(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from train.node.starter import Starter
server = Starter("fork", {MODULE!r}, [], {ENVIRON!r})
server.wait_ready({WITHIN_S})
print(server.pid, server.start([{SLEEP!r}], {{}}, Path({str(tmp_path / "log")!r})), flush=True)
time.sleep(60)
"""
    agent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert agent.stdout
    family = [int(word) for word in agent.stdout.readline().split()]
    agent.kill()
    agent.wait()
    assert len(family) == 2
    assert all(gone(pid) for pid in family)


def test_imports_that_fail_are_reported(starter: Make) -> None:
    with pytest.raises(ImportsFailedError, match="ValueError: no such library") as caught:
        starter(kind="fails")
    assert caught.value.failure.failure_class == "bug"
    assert "in preload" in caught.value.failure.detail


def test_nothing_is_forked_beside_a_thread(starter: Make) -> None:
    with pytest.raises(ImportsFailedError, match=r"started 1 threads \(.+train.start_method=spawn") as caught:
        starter(kind="threads")
    assert caught.value.failure.failure_class == "user"


def test_imports_that_hang_are_not_waited_for_forever(starter: Make) -> None:
    server = starter(kind="sleeps", ready=False)
    with pytest.raises(TimeoutError, match="the imports of the ranks did not finish within 1 s"):
        server.wait_ready(1.0)


def never() -> bool:
    return False


def test_the_peers_of_a_failed_rank_are_killed_at_once(starter: Make, tmp_path: Path) -> None:
    """Though they are deaf to SIGTERM, as ranks are that wait in a collective."""
    server = starter()
    began = time.monotonic()
    ranks = {
        server.start([code], {}, tmp_path / "log"): n
        for n, code in enumerate([SLEEP, "import os; os._exit(5)", SLEEP])
    }
    ended = supervise(server, ranks, never)
    assert (ended.codes, ended.killed_here, ended.well) == ({1: 5}, True, False)
    assert GRACE_S <= time.monotonic() - began < GRACE_S + 3
    assert server.is_alive()


def test_ranks_are_killed_when_their_peers_elsewhere_are_gone(starter: Make, tmp_path: Path) -> None:
    server = starter()
    ended = supervise(server, {server.start([SLEEP], {}, tmp_path / "log"): 0}, lambda: True)
    assert (ended.codes, ended.killed_here, ended.well) == ({}, True, False)


def test_ranks_that_end_well_one_after_the_other_are_waited_for(starter: Make, tmp_path: Path) -> None:
    server = starter()
    codes = ["pass", f"import time; time.sleep({2 * GRACE_S})"]
    ranks = {server.start([code], {}, tmp_path / "log"): n for n, code in enumerate(codes)}
    assert supervise(server, ranks, never).well


def test_a_server_that_was_stopped_does_not_hold_the_node_up(
    starter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.node.supervise._KILL_WITHIN_S", 0.5)
    server = starter()
    pid = server.start([SLEEP], {}, tmp_path / "log")
    os.kill(server.pid, signal.SIGSTOP)
    assert supervise(server, {pid: 0}, lambda: True).killed_here
    assert not server.is_alive()
    assert gone(pid)
