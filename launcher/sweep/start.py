"""Create or extend the directory of a planned sweep, and submit the trials that are missing."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from launcher.errors import Problem, refuse
from launcher.lifecycle.secrets import refuse_secrets
from launcher.lifecycle.snapshot import code_hash, frozen_files, zip_code
from launcher.node.rungs import decisions
from launcher.records.runs import ensure_ours, stage_directory
from launcher.records.sweep_journal import SweepRestarted, TrialArchived
from launcher.records.sweeps import SweepDir, SweepFile, sweep_text, trial_of
from launcher.status.runs import RunStatus
from launcher.status.state import ALIVE
from launcher.status.trials import read_sweep
from launcher.sweep.plan import PlannedTrial, SweepPlan
from launcher.sweep.submit_arrays import hand_over, settle_silent
from train.failures import ExitCode

Which = Literal["missing", "failed", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSubmission:
    """Result of submitting a sweep."""

    sweep: SweepDir
    trials: int
    """Number of trials of this submission."""
    finished: int
    """Number of trials that had already finished."""
    alive: int
    """Number of trials that were already pending or running."""
    stopped: int
    """Number of trials that successive halving had stopped. `resume` continues them one by one."""
    started: int
    jobs: list[str]
    """Job ids, one for each array."""
    other_code: bool
    """Whether the sources changed since the sweep was created. All trials run the frozen sources."""
    refused: Problem | None
    """The problem if Slurm did not accept all arrays; submitting again starts the missing trials."""


def submit_sweep(plan: SweepPlan, which: Which = "missing") -> SweepSubmission:
    """Start the missing trials of a sweep. Active and finished trials are not changed.

    Args:
        plan: The plan of all requested trials.
        which: `missing` starts trials that are neither finished nor active, `failed` only those of them that
            have started before. `all` runs all trials again and archives the previous run directories.

    Raises:
        Refused: No trial was started.
    """
    files = frozen_files()
    sweep = SweepDir(plan.root)
    if not sweep.exists():
        _create(sweep, plan, files)
    ensure_ours(sweep)
    sweep.adopt_umask()
    with sweep.locked():
        file = _grown(sweep, plan)
        settle_silent(sweep)
        statuses = {status.run: status for status in read_sweep(sweep, file)}
        mine = [statuses[trial.name] for trial in plan.trials]
        if which == "all":
            _set_aside(sweep, mine)
        stopped = _stopped_by_halving(sweep)
        chosen = _chosen(plan, mine, which, stopped)
        jobs, problem = hand_over(sweep, plan, chosen)
    finished = 0 if which == "all" else sum(status.state == "COMPLETED" for status in mine)
    return SweepSubmission(
        sweep=sweep,
        trials=len(mine),
        finished=finished,
        alive=sum(status.state in ALIVE for status in mine),
        stopped=sum(status.run in stopped for status in mine),
        started=len(chosen) if problem is None else sum(len(part) for _, part in jobs),
        jobs=[job_id for job_id, _ in jobs],
        other_code=file.code != code_hash(files),
        refused=problem,
    )


def _create(sweep: SweepDir, plan: SweepPlan, files: dict[str, bytes]) -> None:
    """Create a sweep directory atomically: fill it under a temporary name, then rename it."""
    access = plan.trials[0].config.access
    base = plan.trials[0].document
    file = SweepFile(
        sweep=sweep.root.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        overrides=list(plan.overrides),
        settings=plan.settings.model_dump(mode="json"),
        access=access,
        code=code_hash(files),
        base=base,
        trials=[trial_of(trial.name, trial.point, base, trial.document) for trial in plan.trials],
    )
    refuse_secrets(
        {sweep.file.name: sweep_text(file), **{name: data.decode() for name, data in files.items()}}
    )
    staged = SweepDir(stage_directory(sweep.root, access))
    try:
        zip_code(files, staged.code)
        staged.write(file)
        staged.jobs.touch()
        staged.root.rename(sweep.root)
    except OSError:
        # Another command may have just created it; then this command uses it.
        shutil.rmtree(staged.root)
        if not sweep.exists():
            raise


def _grown(sweep: SweepDir, plan: SweepPlan) -> SweepFile:
    """Add new trials to the sweep file, and return its content."""
    file = sweep.read()
    known = {trial.name for trial in file.trials}
    new = [trial for trial in plan.trials if trial.name not in known]
    if new and decisions(sweep):
        raise refuse(
            "sweep.halving",
            "sweep",
            f"cannot add {len(new)} trials to {sweep.root.name}: a rung has already compared its settings",
            "submit a new sweep under another name=, or remove the new trials",
            ExitCode.REFUSED,
        )
    settings = plan.settings.model_dump(mode="json")
    if not new and settings == file.settings:
        return file
    added = [trial_of(trial.name, trial.point, file.base, trial.document) for trial in new]
    grown = replace(file, overrides=list(plan.overrides), settings=settings, trials=[*file.trials, *added])
    sweep.write(grown)
    return grown


def _stopped_by_halving(sweep: SweepDir) -> set[str]:
    return {name for decision in decisions(sweep) for name in decision.dropped}


def _chosen(
    plan: SweepPlan, statuses: Sequence[RunStatus], which: Which, stopped: set[str]
) -> list[PlannedTrial]:
    chosen = []
    for trial, status in zip(plan.trials, statuses, strict=True):
        over = status.state == "COMPLETED" and which != "all"
        new = status.attempt == 0 and which == "failed"
        if not over and not new and status.state not in ALIVE and trial.name not in stopped:
            chosen.append(trial)
    return chosen


def _set_aside(sweep: SweepDir, statuses: Sequence[RunStatus]) -> None:
    """Rename the run directories of all trials, so that the trials can run again."""
    alive = [status.run for status in statuses if status.state in ALIVE]
    if alive:
        raise refuse(
            "sweep.active",
            "--all",
            f"{len(alive)} trials are pending or running, such as {alive[0]}",
            f"run: shardline cancel {sweep.root.name}, or remove --all",
            ExitCode.REFUSED,
        )
    sweep.log(SweepRestarted())
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    for status in statuses:
        run = sweep.run(status.run)
        if run.root.exists():
            aside = run.root.with_name(f".{status.run}.{stamp}")
            run.root.rename(aside)
            sweep.log(TrialArchived(trial=status.run, to=aside.name))
