"""Create a run directory from a plan and start its job, without waiting for it."""

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
    """Result of a submit or resume."""

    run: RunDir
    job_id: str | None
    """None if the run had already finished and nothing was started."""
    changes: Sequence[ConfigChange] = ()
    """Differences from the config of the previous submission."""


def submit_run(composed: Composed) -> SubmitResult:
    """Start the run of a config, or continue it if it exists and is not finished.

    Raises:
        Refused: The config has problems, all of which are listed. No run was created.
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
    """Continue a run with a new config.

    Args:
        run: The run to continue.
        composed: The new config.
        plan: The plan of the new config.
        allowed: Keys that may change although the training so far depends on them.

    Raises:
        Refused: The training so far depends on something that changed, or the run is active.
    """
    if changed := _changed_inputs(run, plan):
        raise refuse(
            "run.inputs",
            "name",
            f"the content of {', '.join(changed)} changed since {run.root.name} was created",
            "restore the content, or submit a new run under another name=",
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
    """Compose and plan a run's config with some keys and groups changed. The run keeps its name.

    Raises:
        Refused: The config has problems, all of which are listed.
    """
    composed = compose_change(run.config.read_text(), overrides, conf_dirs)
    plan, problems = examine(composed)
    if problems or plan is None:
        raise Refused(problems, exit_code_for(problems))
    before = read_training_plan(run)
    same = {"run": before.run, "wandb_id": before.wandb_id}
    return composed, replace(plan, run=before.run, training=plan.training.model_copy(update=same))


def _changed_inputs(run: RunDir, plan: RunPlan) -> list[str]:
    """Return the files whose content differs from the plan of the run."""
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
    """A new config for an existing run, with its changes."""

    composed: Composed
    plan: RunPlan
    changes: Sequence[ConfigChange]
    insisted: Sequence[str]

    @property
    def longer(self) -> bool:
        """Whether the new config may continue a finished run."""
        return any(change.key in LENGTH for change in self.changes)

    def apply(self, run: RunDir) -> None:
        """Write the config and plan to the run directory, and the changes to the journal."""
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
    """Start a run that is not active. It continues from its newest verified checkpoint.

    Args:
        run: The run to start.
        change: A new config, if it changes.
        allowed: Package versions that may change although the training so far depends on them.

    Raises:
        Refused: The run is active, is being started by another command, or may not change as requested.
    """
    ensure_ours(run)
    moved = version_changes(frozen_versions(run.code), versions())
    if problems := refusals(moved, allowed):
        raise Refused(problems)
    try:
        # The lock keeps two commands from both finding the run stopped and both starting it.
        with FileLock(run.root / ".start.lock", timeout=0):
            status = read_status(run)
            if status.state in ALIVE:
                raise _active(run, f"is already {status.state.lower()}")
            if status.state == "COMPLETED" and not (change and change.longer):
                return SubmitResult(run, None)
            if change and _ends_early_again(run, change):
                raise refuse(
                    "resume.ended_early",
                    "eval.patience",
                    f"{run.root.name} would end at the same step again: {status.why}",
                    "raise eval.patience, or set eval.patience=null",
                )
            run.adopt_umask()
            run.result.unlink(missing_ok=True)
            if not can_start(run.code):
                freeze_again(run.code)
                run.log(Changed(keys=["code: frozen again because its layout was outdated"], insisted=[]))
            if change:
                change.apply(run)
            if moved:
                run.log(Changed(keys=[entry.text for entry in moved], insisted=allowed))
            return SubmitResult(run, start_job(run), [*(change.changes if change else ()), *moved])
    except Timeout:
        raise _active(run, "is being started by another command") from None


def _ends_early_again(run: RunDir, change: _NewConfig) -> bool:
    """Return whether a run that ended early has no larger eval.patience in its new config."""
    result = finished_result(run)
    if result is None or not result.ended_early:
        return False
    before, now = load_config(run).eval.patience, change.composed.config.eval.patience
    return now is not None and before is not None and now <= before


def _active(run: RunDir, what: str) -> Refused:
    watch = f"to follow it, run: shardline logs -f {name_to_type(run)}"
    return refuse("run.active", "RUN", f"{run.root.name} {what}", watch, ExitCode.REFUSED)


def create_run(run: RunDir, composed: Composed, plan: RunPlan) -> None:
    """Create a run directory atomically: fill it under a temporary name, then rename it.

    Raises:
        Refused: A file would contain a secret, the sources are too large, or the run exists.
    """
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
            f"{run.root.name} was just created by another submit",
            f"run: shardline status {run.root.name}",
            ExitCode.REFUSED,
        ) from error
