"""How long ranks are waited for once one of them, or a peer elsewhere, is gone."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from train.node.starter import Exit, ServerDiedError
from train.node.supervise import GRACE_S, Ended, supervise

RANKS = {100: 0, 101: 1, 102: 2}


class ScriptedStarter:
    """Ranks that end at given times, on a clock of its own; killed ones end at once, unless it is deaf."""

    def __init__(self, exits: dict[int, tuple[float, int]], *, deaf: bool = False) -> None:
        self.now = 0.0
        self.signals: list[tuple[float, signal.Signals]] = []
        self.killed_at: float | None = None
        self._exits = {pid: (at, code) for pid, (at, code) in exits.items()}
        self._deaf = deaf

    def next_exit(self, within_s: float) -> Exit | None:
        at, pid = min(((at, pid) for pid, (at, _) in self._exits.items()), default=(float("inf"), 0))
        if at > self.now + within_s:
            self.now += within_s
            return None
        self.now = max(at, self.now)
        return Exit(pid, self._exits.pop(pid)[1])

    def signal_all(self, number: signal.Signals) -> None:
        self.signals.append((self.now, number))
        if not self._deaf:
            self._exits = dict.fromkeys(self._exits, (self.now, -number))

    def kill(self) -> None:
        self.killed_at = self.now


def supervised(
    monkeypatch: pytest.MonkeyPatch, starter: ScriptedStarter, peers_gone_at: float = float("inf")
) -> Ended:
    monkeypatch.setattr("train.node.supervise.time", SimpleNamespace(monotonic=lambda: starter.now))
    scripted: Any = starter
    return supervise(scripted, RANKS, lambda: starter.now >= peers_gone_at)


def test_ranks_that_end_well_are_waited_for(monkeypatch: pytest.MonkeyPatch):
    starter = ScriptedStarter({100: (1.0, 0), 101: (500.0, 0), 102: (9.0, 0)})
    ended = supervised(monkeypatch, starter)
    assert ended.well
    assert (ended.codes, starter.signals, starter.now) == ({}, [], 500.0)


def test_the_peers_of_a_killed_rank_are_killed_after_a_grace(monkeypatch: pytest.MonkeyPatch):
    starter = ScriptedStarter({100: (900.0, 0), 101: (5.0, -9), 102: (900.0, 0)})
    ended = supervised(monkeypatch, starter)
    assert ended == Ended({1: -9}, killed_here=True)
    assert not ended.well
    [(at, number)] = starter.signals
    assert number is signal.SIGKILL
    assert 5.0 + GRACE_S <= at < 5.0 + GRACE_S + 0.3


def test_peers_that_end_by_themselves_in_the_grace_are_not_killed(monkeypatch: pytest.MonkeyPatch):
    starter = ScriptedStarter({100: (5.5, 1), 101: (5.0, -9), 102: (5.8, 0)})
    assert supervised(monkeypatch, starter) == Ended({1: -9, 0: 1}, killed_here=False)
    assert starter.signals == []


def test_ranks_whose_peers_elsewhere_are_gone_are_killed(monkeypatch: pytest.MonkeyPatch):
    starter = ScriptedStarter(dict.fromkeys(RANKS, (900.0, 0)))
    ended = supervised(monkeypatch, starter, peers_gone_at=7.0)
    assert ended == Ended({}, killed_here=True)
    assert not ended.well
    assert starter.now == pytest.approx(7.0 + GRACE_S, abs=0.5)


def test_ranks_that_had_ended_well_when_a_peer_failed_are_well(monkeypatch: pytest.MonkeyPatch):
    starter = ScriptedStarter(dict.fromkeys(RANKS, (7.5, 0)))
    assert supervised(monkeypatch, starter, peers_gone_at=7.0).well


def test_a_server_that_passes_no_signal_on_is_killed_itself(monkeypatch: pytest.MonkeyPatch):
    starter = ScriptedStarter({100: (900.0, 0), 101: (5.0, 1), 102: (900.0, 0)}, deaf=True)
    assert supervised(monkeypatch, starter) == Ended({1: 1}, killed_here=True)
    assert len(starter.signals) == 1
    assert starter.killed_at == pytest.approx(5.0 + GRACE_S + 15.0, abs=0.5)


def test_the_death_of_the_server_is_passed_on(monkeypatch: pytest.MonkeyPatch):
    starter = ScriptedStarter({})

    def died(_: float) -> Exit | None:
        raise ServerDiedError("gone")

    monkeypatch.setattr(starter, "next_exit", died)
    with pytest.raises(ServerDiedError):
        supervised(monkeypatch, starter)
