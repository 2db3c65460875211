"""Which trials a submit of a sweep starts, and when it starts none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import Refused
from launcher.records.points import Point
from launcher.records.sweep_journal import RungDecided, TrialArchived
from launcher.records.sweeps import SweepDir
from launcher.status.state import State
from launcher.sweep import start as module
from launcher.sweep.plan import PlannedTrial, SweepPlan
from launcher.sweep.start import SweepSubmission, Which, submit_sweep
from tests.launcher.sweep.parts import status_of, sweep_plan
from train.failures import ExitCode

pytestmark = pytest.mark.usefixtures("umask")


class Desk:
    """What the trials are doing, and which were handed over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.code = {"train/__init__.py": b""}
        self.states: dict[str, tuple[State, int]] = {}
        self.chosen: list[str] = []

    def read_sweep(self, sweep: SweepDir, file: Any) -> list[Any]:
        return [status_of(trial.name, *self.states.get(trial.name, ("FAILED", 0))) for trial in file.trials]

    def hand_over(
        self, sweep: SweepDir, plan: SweepPlan, chosen: Sequence[PlannedTrial]
    ) -> tuple[list[Any], None]:
        self.chosen = [trial.name for trial in chosen]
        return [("1", self.chosen)] if self.chosen else [], None

    def plan(self, count: int, **settings: Any) -> SweepPlan:
        points: list[Point] = [{"seed": seed} for seed in range(count)]
        return sweep_plan(self.root / "sweep", points, **settings)

    def submit(self, count: int = 6, which: Which = "missing", **settings: Any) -> SweepSubmission:
        return submit_sweep(self.plan(count, **settings), which)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk(tmp_path)
    monkeypatch.setattr(module, "frozen_files", lambda: desk.code)
    monkeypatch.setattr(module, "read_sweep", desk.read_sweep)
    monkeypatch.setattr(module, "hand_over", desk.hand_over)
    monkeypatch.setattr(module, "settle_silent", lambda _: None)
    return desk


def test_a_sweep_is_made_whole_and_starts_all(desk: Desk):
    done = desk.submit(3)
    names = [trial.name for trial in desk.plan(3).trials]
    assert desk.chosen == names == [trial.name for trial in done.sweep.read().trials]
    assert (done.trials, done.started, done.finished, done.alive, done.jobs) == (3, 3, 0, 0, ["1"])
    assert not done.other_code
    assert {path.name for path in done.sweep.root.iterdir()} >= {"sweep.yaml", "code.zip", "jobs.jsonl"}
    assert [path.name for path in desk.root.iterdir()] == ["sweep"], "something half-made is left"


@pytest.mark.parametrize(("which", "expected"), [("missing", [2, 3, 4, 5]), ("failed", [2, 3, 4])])
def test_what_is_finished_or_alive_is_left_alone(desk: Desk, which: Which, expected: list[int]):
    names = [trial.name for trial in desk.plan(6).trials]
    states: list[tuple[State, int]] = [
        ("COMPLETED", 1),
        ("RUNNING", 1),
        ("FAILED", 1),
        ("CANCELLED", 1),
        ("PREEMPTED", 2),
        ("FAILED", 0),
    ]
    desk.states = dict(zip(names, states, strict=True))
    done = desk.submit(6, which)
    assert desk.chosen == [names[number] for number in expected]
    assert (done.finished, done.alive, done.started) == (1, 1, len(expected))


def test_all_sets_what_there_was_aside(desk: Desk):
    sweep = desk.submit(2).sweep
    names = [trial.name for trial in desk.plan(2).trials]
    desk.states = {names[0]: ("COMPLETED", 1), names[1]: ("FAILED", 1)}
    sweep.run(names[0]).root.mkdir()
    done = desk.submit(2, "all")
    assert desk.chosen == names
    assert (done.finished, done.started) == (0, 2)
    [archived] = [event for event in sweep.read_journal() if isinstance(event, TrialArchived)]
    assert archived.trial == names[0]
    assert (sweep.root / archived.to).is_dir()
    assert not sweep.run(names[0]).root.exists()


def test_all_is_refused_while_a_trial_is_alive(desk: Desk):
    desk.submit(2)
    desk.chosen = []
    desk.states = {desk.plan(2).trials[0].name: ("PENDING", 0)}
    with pytest.raises(Refused) as refused:
        desk.submit(2, "all")
    [problem] = refused.value.problems
    assert (problem.code, problem.field, refused.value.exit_code) == (
        "sweep.active",
        "--all",
        ExitCode.REFUSED,
    )
    assert desk.chosen == []


def test_a_sweep_grows_and_keeps_its_code(desk: Desk):
    first = desk.submit(2)
    code = first.sweep.read().code
    desk.code = {"train/__init__.py": b"changed = True\n"}
    names = [trial.name for trial in desk.plan(4).trials]
    desk.states = dict.fromkeys(names[:2], ("COMPLETED", 1))
    more = desk.submit(4, parallel=3)
    file = more.sweep.read()
    assert desk.chosen == names[2:]
    assert [trial.name for trial in file.trials] == names
    assert (file.code, file.settings["parallel"], more.other_code) == (code, 3, True)
    fewer = desk.submit(1)
    assert (fewer.trials, fewer.started) == (1, 0)
    assert [trial.name for trial in fewer.sweep.read().trials] == names


def test_what_halving_stopped_is_not_started_and_nothing_is_added(desk: Desk):
    sweep = desk.submit(3).sweep
    names = [trial.name for trial in desk.plan(3).trials]
    sweep.log(RungDecided(chain="a", rung=0, step=2, kept=names[1:], dropped={names[0]: "loss"}))
    done = desk.submit(3)
    assert desk.chosen == names[1:]
    assert (done.stopped, done.started) == (1, 2)
    with pytest.raises(Refused) as refused:
        desk.submit(4)
    [problem] = refused.value.problems
    assert (problem.code, refused.value.exit_code) == ("sweep.halving", ExitCode.REFUSED)
    assert len(sweep.read().trials) == 3
