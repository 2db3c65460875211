"""From a plan to a job: directory, frozen inputs, intent, job, id. Returns at once."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from launcher.compose.run import Composed, compose_change
from launcher.errors import Refused, refuse
from launcher.lifecycle.changes import (
    LENGTH,
    ConfigChange,
    changes_between,
    draw_changes,
    refusals,
    version_changes,
)
from launcher.lifecycle.secrets import refuse_secrets_in
from launcher.lifecycle.snapshot import can_start, freeze_again, freeze_code, frozen_versions, versions
from launcher.lifecycle.start import NOT_SUBMITTED, start_job
from launcher.planning.plan import RunPlan
from launcher.planning.preflight import examine, exit_code_for
from launcher.records.plans import write_plan
from launcher.records.runs import as_yaml, ensure_ours, load_config, name_to_type, stage_run
from launcher.status.runs import read_status
from launcher.status.state import ALIVE
from train.config_names import as_frozen, unknown_keys
from train.failures import ExitCode
from train.job import read_training_plan
from train.journal.events import Changed
from train.result import finished_result
from train.rundir import RunDir, write_atomic, write_json


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """What a submit or resume came to."""

    run: RunDir
    job_id: str | None
    """None when the run had already finished and nothing was started."""
    changes: Sequence[ConfigChange] = ()
    """What differs from the config that it was submitted with before."""


def submit_run(composed: Composed) -> SubmitResult:
    """Start a config's run, go on with it, or find it finished.

    Raises:
        Refused: with every problem; nothing was created.
    """
    plan, problems = examine(composed)
    if problems or plan is None:
        raise Refused(problems, exit_code_for(problems))
    run = RunDir(Path(composed.config.runs_dir) / plan.run)
    if not run.root.exists():
        create_run(run, composed, plan)
        try:
            return resume_run(run)
        except Refused as refusal:
            if any(problem.code == NOT_SUBMITTED for problem in refusal.problems):
                shutil.rmtree(run.root)
            raise
    return change_run(run, composed, plan)


def change_run(run: RunDir, composed: Composed, plan: RunPlan, allowed: Sequence[str] = ()) -> SubmitResult:
    """Go on with a run under the config that it is given now.

    Raises:
        Refused: what was trained so far depends on something that differs; or it runs already.
    """
    if changed := _changed_inputs(run, plan):
        raise refuse(
            "run.inputs",
            "name",
            f"{run.root.name} was trained on another content of {', '.join(changed)}",
            "choose another name= for a run on what is there now, or put it back",
            ExitCode.REFUSED,
        )
    changes = changes_between(load_config(run), composed.config)
    frozen = yaml.safe_load(run.config.read_text())
    unknown = unknown_keys([change.key for change in changes], frozen)
    if unknown and can_start(run.code):
        raise refuse(
            "run.code",
            unknown[0],
            f"the code frozen in {run.root.name} has no key {', '.join(unknown)}",
            "leave the key at its default, or submit a new run under another name=",
            ExitCode.REFUSED,
        )
    changes += draw_changes(read_training_plan(run).fold, plan.training.fold, changes)
    if problems := refusals(changes, allowed):
        raise Refused(problems)
    return resume_run(run, _NewConfig(composed, plan, changes, allowed), allowed)


def recomposed(run: RunDir, overrides: Sequence[str], conf_dirs: Sequence[Path]) -> tuple[Composed, RunPlan]:
    """A run's own config with some keys and groups changed, and its plan; the run keeps its name.

    Raises:
        Refused: with every problem.
    """
    composed = compose_change(run.config.read_text(), overrides, conf_dirs)
    plan, problems = examine(composed)
    if problems or plan is None:
        raise Refused(problems, exit_code_for(problems))
    before = read_training_plan(run)
    same = {"run": before.run, "wandb_id": before.wandb_id}
    return composed, replace(plan, run=before.run, training=plan.training.model_copy(update=same))


def _changed_inputs(run: RunDir, plan: RunPlan) -> list[str]:
    """Files that a run of this config was planned with and that differ now."""
    planned = read_training_plan(run)
    now = plan.training
    same_place = {role: file for role, file in planned.data.items() if role in now.data}
    changed = [
        file.path
        for role, file in same_place.items()
        if now.data[role].path == file.path and now.data[role].sha256 != file.sha256
    ]
    return changed + (["model.chat_template"] if planned.chat_template != now.chat_template else [])


@dataclass(frozen=True, slots=True)
class _NewConfig:
    """Another config for a run, and what differs."""

    composed: Composed
    plan: RunPlan
    changes: Sequence[ConfigChange]
    insisted: Sequence[str]

    @property
    def longer(self) -> bool:
        """Whether a finished run is not finished under it."""
        return any(change.key in LENGTH for change in self.changes)

    def apply(self, run: RunDir) -> None:
        """Write it into the run directory, and down in the journal."""
        frozen = yaml.safe_load(run.config.read_text())
        values = self.composed.config.model_dump(mode="json")
        write_atomic(run.config, as_yaml(as_frozen(values, frozen)))
        write_plan(run, self.plan)
        write_json(run.deepspeed, self.plan.deepspeed)
        if self.changes:
            run.log(Changed(keys=[change.text for change in self.changes], insisted=self.insisted))
        if self.longer:
            (run.evaluations / "tuned.json").unlink(missing_ok=True)
            run.predictions.unlink(missing_ok=True)


def resume_run(run: RunDir, change: _NewConfig | None = None, allowed: Sequence[str] = ()) -> SubmitResult:
    """Start a run that is not running; it goes on from its newest verified checkpoint.

    Raises:
        Refused: it is running, or another command is starting it at this moment.
    """
    ensure_ours(run)
    moved = version_changes(frozen_versions(run.code), versions())
    if problems := refusals(moved, allowed):
        raise Refused(problems)
    try:
        # Two commands must not both find it stopped and both start it.
        with FileLock(run.root / ".start.lock", timeout=0):
            status = read_status(run)
            if status.state in ALIVE:
                raise _active(run, f"is {status.state.lower()} already")
            if status.state == "COMPLETED" and not (change and change.longer):
                return SubmitResult(run, None)
            if change and _ends_early_again(run, change):
                raise refuse(
                    "resume.ended_early",
                    "eval.patience",
                    f"{run.root.name} ended early, and would end at the same step again: {status.why}",
                    "raise eval.patience, or set it to null",
                )
            run.adopt_umask()
            run.result.unlink(missing_ok=True)
            if not can_start(run.code):
                freeze_again(run.code)
                run.log(Changed(keys=["code: frozen again, its layout was older"], insisted=[]))
            if change:
                change.apply(run)
            if moved:
                run.log(Changed(keys=[entry.text for entry in moved], insisted=allowed))
            return SubmitResult(run, start_job(run), [*(change.changes if change else ()), *moved])
    except Timeout:
        raise _active(run, "is being started by another command") from None


def _ends_early_again(run: RunDir, change: _NewConfig) -> bool:
    """Whether a run that ran out of patience gets none that is longer."""
    result = finished_result(run)
    if result is None or not result.ended_early:
        return False
    before, now = load_config(run).eval.patience, change.composed.config.eval.patience
    return now is not None and before is not None and now <= before


def _active(run: RunDir, what: str) -> Refused:
    watch = f"watch it: shardline logs -f {name_to_type(run)}"
    return refuse("run.active", "RUN", f"{run.root.name} {what}", watch, ExitCode.REFUSED)


def create_run(run: RunDir, composed: Composed, plan: RunPlan) -> None:
    """Fill a directory under another name and rename it: a run is whole, or it is not there."""
    staged = stage_run(run.root, composed.config.access)
    try:
        freeze_code(staged.code)
        write_json(staged.deepspeed, plan.deepspeed)
        write_atomic(staged.config, composed.yaml)
        write_atomic(staged.root / "overrides.txt", "".join(f"{text}\n" for text in composed.overrides))
        write_plan(staged, plan)
        refuse_secrets_in(staged.root)
        staged.root.rename(run.root)
    except Refused:
        shutil.rmtree(staged.root)
        raise
    except OSError as error:
        shutil.rmtree(staged.root, ignore_errors=True)
        if not run.root.exists():
            raise
        raise refuse(
            "run.exists",
            "name",
            f"{run.root.name} was made by another submit a moment ago",
            "look at it: shardline status",
            ExitCode.REFUSED,
        ) from error
