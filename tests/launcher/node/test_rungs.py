"""Which trials continue at a rung, decided once from their losses, and the loss of a trial at a step."""

from pathlib import Path

import pytest

from launcher.node.rungs import assigned, decisions, loss_at, step_of
from launcher.records.sweep_journal import SweepRestarted
from launcher.records.sweeps import ArrayJob, SweepDir
from tests.launcher.sweep.parts import made_sweep, sweep_plan
from tests.rows import metrics_row
from train.journal.events import Validated
from train.metrics import log_metrics
from train.records.base import now
from train.rundir import RunDir

RUNGS = [2, 6]


@pytest.fixture
def sweep(tmp_path: Path) -> SweepDir:
    """Four settings, compared at two rungs, half of which continue."""
    points = [{"optim.lr": rate} for rate in (1e-3, 2e-3, 3e-3, 4e-3)]
    sweep = made_sweep(sweep_plan(tmp_path / "sweep", points, halving={"rungs": RUNGS, "keep": 0.5}))
    for number, trial in enumerate(sweep.read().trials):
        sweep.run(trial.name).root.mkdir()
        # The settings get better from the first to the last.
        validated(sweep.run(trial.name), RUNGS[0], 4.0 - number)
    return sweep


def validated(run: RunDir, step: int, loss: float) -> None:
    run.log(Validated(attempt=1, step=step, best=True, rows=4, tokens=8, loss=loss, perplexity=None))


def array(sweep: SweepDir, rung: int | None) -> ArrayJob:
    names = [trial.name for trial in sweep.read().trials]
    chain = "a" if rung is not None else None
    return ArrayJob(
        time=now(), executor="slurm", name="a", trials=names, rung=rung, chain=chain, places=len(names)
    )


def test_all_trials_run_to_the_first_rung(sweep: SweepDir):
    names = [trial.name for trial in sweep.read().trials]
    assert assigned(sweep, array(sweep, None)) == assigned(sweep, array(sweep, 0)) == names
    assert decisions(sweep) == []


def test_a_rung_is_decided_by_the_first_who_asks(sweep: SweepDir):
    names = [trial.name for trial in sweep.read().trials]
    kept = assigned(sweep, array(sweep, 1))
    assert kept == [names[3], names[2]]
    validated(sweep.run(names[0]), RUNGS[0], 0.0)
    assert assigned(sweep, array(sweep, 1)) == kept
    [decision] = decisions(sweep)
    assert (decision.step, decision.kept, list(decision.dropped)) == (RUNGS[0], kept, names[:2])


def test_a_later_rung_chooses_among_those_that_got_there(sweep: SweepDir):
    names = [trial.name for trial in sweep.read().trials]
    validated(sweep.run(names[2]), RUNGS[1], 0.5)
    validated(sweep.run(names[3]), RUNGS[1], 0.7)
    validated(sweep.run(names[0]), RUNGS[1], 0.1)
    assert assigned(sweep, array(sweep, 2)) == [names[2]]
    assert [decision.step for decision in decisions(sweep)] == RUNGS


def test_a_sweep_that_is_started_again_decides_again(sweep: SweepDir):
    assigned(sweep, array(sweep, 1))
    sweep.log(SweepRestarted())
    assert decisions(sweep) == []
    assigned(sweep, array(sweep, 1))
    assert len(decisions(sweep)) == 1


@pytest.mark.parametrize(("rung", "step"), [(None, None), (0, 2), (1, 6), (2, None)])
def test_an_array_stops_at_its_rung(sweep: SweepDir, rung: int | None, step: int | None):
    assert step_of(sweep, array(sweep, rung)) == step


def test_without_halving_trials_go_to_their_end(tmp_path: Path):
    sweep = made_sweep(sweep_plan(tmp_path / "plain", [{"seed": 1}]))
    assert step_of(sweep, array(sweep, None)) is None


@pytest.mark.parametrize(
    ("losses", "loss"),
    [
        ({}, None),
        ({19: 9.0, 20: 4.0}, 6.5),
        ({17: 9.0, 20: 4.0}, 4.0),
        ({18: 9.0, 19: 2.0, 20: 4.0}, 3.0),
        ({18: 9.0, 19: 2.0, 20: 4.0, 21: 1.0}, 3.0),
        ({18: 9.0, 19: 2.0}, None),
        ({19: None, 20: 4.0}, None),
        ({10: 5.0, 30: 4.0}, None),
    ],
)
def test_training_losses_just_before_a_step_stand_for_a_validation(
    tmp_path: Path, losses: dict[int, float | None], loss: float | None
):
    run = RunDir(tmp_path)
    for step, value in losses.items():
        log_metrics(run, metrics_row(step, value))
    assert loss_at(run, 20) == loss


def test_a_validation_at_the_step_comes_first(tmp_path: Path):
    run = RunDir(tmp_path)
    log_metrics(run, metrics_row(20, 4.0))
    validated(run, 10, 1.0)
    assert loss_at(run, 20) == 4.0
    validated(run, 20, 2.5)
    assert loss_at(run, 20) == 2.5


def test_a_validation_that_is_not_finite_is_no_loss(tmp_path: Path):
    run = RunDir(tmp_path)
    validated(run, 20, float("nan"))
    assert loss_at(run, 20) is None
