"""Decide once at each rung which trials continue, and record the decision in the journal of the sweep."""

import math
from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING

from launcher.node.halving import RungDecision, Standing, decide
from launcher.records.sweep_journal import RungDecided, SweepRestarted
from launcher.records.sweeps import ArrayJob, SweepDir
from train.journal.events import Validated
from train.journal.reading import of_kind, read_journal
from train.metrics import latest_by_step, read_metrics
from train.rundir import RunDir

if TYPE_CHECKING:
    from launcher.config import HalvingConfig

_TRAINING_SHARE = 0.1
"""Share of the newest training losses that is compared if there is no validation set."""


def assigned(sweep: SweepDir, array: ArrayJob) -> Sequence[str]:
    """Return the trials of an array by index. The first call after a rung decides which trials continue."""
    if not array.rung:
        return array.trials
    with sweep.locked():
        return _kept(sweep, array, array.rung - 1)


def step_of(sweep: SweepDir, array: ArrayJob) -> int | None:
    """Return the step at which the trials of an array stop, or None if they train to the end."""
    halving = _halving(sweep)
    if halving is None or array.rung is None or array.rung >= len(halving.rungs):
        return None
    return halving.rungs[array.rung]


def decisions(sweep: SweepDir) -> list[RungDecision]:
    """Return all decisions, oldest first."""
    return [
        RungDecision(step=event.step, kept=list(event.kept), dropped=dict(event.dropped))
        for event in halving_events(sweep)
    ]


def halving_events(sweep: SweepDir) -> list[RungDecided]:
    """Return the recorded decisions since all trials of the sweep were last restarted."""
    found: list[RungDecided] = []
    for event in sweep.read_journal():
        if isinstance(event, SweepRestarted):
            found.clear()
        elif isinstance(event, RungDecided):
            found.append(event)
    return found


def _kept(sweep: SweepDir, array: ArrayJob, rung: int) -> list[str]:
    for event in halving_events(sweep):
        if (event.chain, event.rung) == (array.chain, rung):
            return list(event.kept)
    candidates = _kept(sweep, array, rung - 1) if rung else array.trials
    halving = _halving(sweep)
    assert halving is not None
    points = {trial.name: trial.point for trial in sweep.read().trials}
    standings = [
        Standing(trial=name, point=points[name], loss=loss_at(sweep.run(name), halving.rungs[rung]))
        for name in candidates
    ]
    decision = decide(standings, halving.rungs[rung], halving.keep)
    sweep.log(
        RungDecided(
            chain=array.chain,
            rung=rung,
            step=decision.step,
            kept=decision.kept,
            dropped=decision.dropped,
        )
    )
    return decision.kept


def loss_at(run: RunDir, step: int) -> float | None:
    """Return the validation loss at a step, or the mean training loss before it.

    The loss is None if the run did not reach the step, or if a loss is not finite.
    """
    for event in of_kind(read_journal(run.events), Validated):
        if event.step == step:
            return _finite([event.loss])
    first = step - max(1, int(step * _TRAINING_SHARE))
    rows = latest_by_step(read_metrics(run))
    reached = bool(rows) and rows[-1].step >= step
    return _finite([row.loss for row in rows if first < row.step <= step]) if reached else None


def _finite(losses: Sequence[float | None]) -> float | None:
    sound = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return mean(sound) if sound and len(sound) == len(losses) else None


def _halving(sweep: SweepDir) -> "HalvingConfig | None":
    from launcher.config import HalvingConfig

    given = sweep.read().settings["halving"]
    return HalvingConfig.model_validate(given) if given else None
