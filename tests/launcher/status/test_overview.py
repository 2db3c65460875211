"""What `shardline status` shows: named runs and sweeps, or all of them, with one question to the queue."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.errors import Refused
from launcher.status import overview as module
from launcher.status.overview import read_overview
from launcher.status.runs import RunStatus
from launcher.status.state import Unstarted
from tests.launcher.sweep.parts import made_sweep, status_of, sweep_plan
from train.rundir import RunDir

TRIALS = {"first": 2, "second": 1}


class Reader:
    """Stands for the reader of statuses: keeps how often it was asked, and for what."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], bool]] = []

    def read(self, runs: Sequence[RunDir | Unstarted], *, attempts: bool) -> list[RunStatus]:
        names = [run.root.name for run in runs]
        self.calls.append((names, attempts))
        return [status_of(name, "RUNNING") for name in names]


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    reader = Reader()
    monkeypatch.setattr(module, "read_statuses", reader.read)
    return reader


@pytest.fixture
def names(runs: Path) -> dict[str, list[str]]:
    """Two runs and two sweeps; the names of the trials of each."""
    for run in ("run-a", "run-b"):
        (runs / run).mkdir(parents=True)
        (runs / run / "run.yaml").touch()
        (runs / run / "plan.json").touch()
    found: dict[str, list[str]] = {}
    for sweep, count in TRIALS.items():
        points: list[dict[str, Any]] = [{"optim.lr": 1e-3, "seed": seed} for seed in range(count)]
        plan = sweep_plan(runs / sweep, points, {"name": sweep})
        found[sweep] = [trial.name for trial in made_sweep(plan).read().trials]
    return found


def test_without_names_all_are_shown_after_one_question(reader: Reader, names: dict[str, list[str]]):
    shown = read_overview([])
    assert not shown.named
    assert {status.run for status in shown.runs} == {"run-a", "run-b"}
    assert {name: [status.run for status in trials] for name, trials in shown.sweeps.items()} == names
    assert len(shown.statuses) == 5
    assert shown.labels[names["first"][1]] == "lr=0.001 seed=1"
    [(asked, attempts)] = reader.calls
    assert sorted(asked) == sorted(status.run for status in shown.statuses)
    assert not attempts


def test_names_are_shown_in_their_order_with_attempts(reader: Reader, names: dict[str, list[str]]):
    shown = read_overview(["second", "run-b", "run-a"])
    assert shown.named
    assert [status.run for status in shown.runs] == ["run-b", "run-a"]
    assert list(shown.sweeps) == ["second"]
    assert set(shown.labels) == set(names["second"])
    [(_, attempts)] = reader.calls
    assert attempts


@pytest.mark.parametrize(("name", "code"), [("run", "run.ambiguous"), ("other", "run.unknown")])
@pytest.mark.usefixtures("names")
def test_a_name_that_fits_none_or_several_is_refused(reader: Reader, name: str, code: str):
    with pytest.raises(Refused) as refused:
        read_overview([name])
    assert [problem.code for problem in refused.value.problems] == [code]
    assert reader.calls == []


def test_an_empty_folder_of_runs_shows_nothing(reader: Reader):
    shown = read_overview([])
    assert (shown.statuses, shown.sweeps, shown.labels) == ([], {}, {})
