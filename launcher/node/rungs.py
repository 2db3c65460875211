"""Who goes on at a rung: read from the trials, decided once, written into the sweep's journal."""

import math
from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from launcher.node.halving import RungDecision, Standing, decide
from launcher.records.sweeps import ArrayJob, SweepDir
from train.rundir import RunDir, latest_by_step, read_lines

if TYPE_CHECKING:
    from launcher.config import HalvingConfig

_EVENT = "halving"
BEGUN_ANEW = "begun_anew"
"""In the journal: what was decided before counts no more."""
_TRAINING_SHARE = 0.1
"""Without a validation set, the newest tenth of the training losses is compared."""


def assigned(sweep: SweepDir, array: ArrayJob) -> Sequence[str]:
    """The trials of an array by index; after a rung, those that go on, which the first to ask decides."""
    if not array.rung:
        return array.trials
    with sweep.locked():
        return _kept(sweep, array, array.rung - 1)


def step_of(sweep: SweepDir, array: ArrayJob) -> int | None:
    """At which step the trials of an array stop; None: at their end."""
    halving = _halving(sweep)
    if halving is None or array.rung is None or array.rung >= len(halving.rungs):
        return None
    return halving.rungs[array.rung]


def decisions(sweep: SweepDir) -> list[RungDecision]:
    """All that was decided so far, oldest first."""
    rows = halving_events(sweep)
    return [RungDecision(step=row["step"], kept=row["kept"], dropped=row["dropped"]) for row in rows]


def halving_events(sweep: SweepDir) -> list[dict[str, Any]]:
    """Decisions since the sweep was last begun anew: chain, rung, step, kept and dropped trials."""
    rows: list[dict[str, Any]] = []
    for row in read_lines(sweep.events):
        if row["event"] == BEGUN_ANEW:
            rows.clear()
        elif row["event"] == _EVENT:
            rows.append(row)
    return rows


def _kept(sweep: SweepDir, array: ArrayJob, rung: int) -> list[str]:
    for row in halving_events(sweep):
        if (row["chain"], row["rung"]) == (array.chain, rung):
            kept: list[str] = row["kept"]
            return kept
    candidates = _kept(sweep, array, rung - 1) if rung else array.trials
    halving = _halving(sweep)
    assert halving is not None
    points = {trial.name: trial.point for trial in sweep.read().trials}
    standings = [
        Standing(trial=name, point=points[name], loss=loss_at(sweep.run(name), halving.rungs[rung]))
        for name in candidates
    ]
    decision = decide(standings, halving.rungs[rung], halving.keep)
    sweep.log_event(
        _EVENT,
        chain=array.chain,
        rung=rung,
        step=decision.step,
        kept=decision.kept,
        dropped=decision.dropped,
    )
    return decision.kept


def loss_at(run: RunDir, step: int) -> float | None:
    """Validation loss at a step, or the mean training loss just before it.

    None if the run did not get there, or got there with numbers that are not finite.
    """
    for row in read_lines(run.events):
        if row["event"] == "validation" and row["step"] == step:
            return _finite([row["loss"]])
    first = step - max(1, int(step * _TRAINING_SHARE))
    rows = latest_by_step(read_lines(run.metrics))
    reached = bool(rows) and rows[-1]["step"] >= step
    return _finite([row["loss"] for row in rows if first < row["step"] <= step]) if reached else None


def _finite(losses: Sequence[float | None]) -> float | None:
    sound = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    return mean(sound) if sound and len(sound) == len(losses) else None


def _halving(sweep: SweepDir) -> "HalvingConfig | None":
    from launcher.config import HalvingConfig

    given = sweep.read().settings["halving"]
    return HalvingConfig.model_validate(given) if given else None
