"""From a plan to a job: directory, frozen inputs, intent, job, id. Returns at once."""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from launcher.compose import Composed
from launcher.config import RunConfig
from launcher.errors import Refused, refuse
from launcher.node import VISIBLE_DEVICES, record_job, run_node
from launcher.plan import RunPlan
from launcher.preflight import examine, exit_code_for
from launcher.runs import name_to_type, stage_run
from launcher.snapshot import freeze_code
from launcher.status import read_status
from slurm.executor import LocalRequest, submit_local
from train.failures import ExitCode
from train.job import TrainPlan
from train.rundir import RunDir, append_line, write_atomic, write_json


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submit or resume came to."""

    run: RunDir
    job_id: str | None
    """None when the run had already finished and nothing was started."""


def submit_run(composed: Composed) -> Submission:
    """Start a config's run, go on with it, or find it finished.

    Raises:
        Refused: with every problem; nothing was created.
    """
    plan, problems = examine(composed)
    if problems or plan is None:
        raise Refused(problems, exit_code_for(problems))
    run = RunDir(Path(composed.config.runs_dir) / plan.run)
    if not run.root.exists():
        _create(run, composed, plan)
    elif run.config.read_text() != composed.yaml:
        raise refuse(
            "run.differs",
            "name",
            f"{run.root.name} exists and was submitted with other settings of hardware, slurm or tracking",
            f"go on with its own: shardline resume {name_to_type(run)}; or choose another name=",
            ExitCode.REFUSED,
        )
    elif changed := _changed_inputs(run, plan):
        raise refuse(
            "run.inputs",
            "name",
            f"{run.root.name} was trained on another content of {', '.join(changed)}",
            "choose another name= for a run on what is there now, or put it back",
            ExitCode.REFUSED,
        )
    return resume_run(run)


def _changed_inputs(run: RunDir, plan: RunPlan) -> list[str]:
    """Files that a run of this config was planned with and that differ now."""
    planned = TrainPlan.model_validate(json.loads(run.plan.read_text())["training"])
    now = plan.training
    changed = [file.path for role, file in planned.data.items() if now.data[role].sha256 != file.sha256]
    return changed + (["model.chat_template"] if planned.chat_template != now.chat_template else [])


def resume_run(run: RunDir) -> Submission:
    """Start a run that is not running; it goes on from its newest verified checkpoint.

    Raises:
        Refused: it is running, or another command is starting it at this moment.
    """
    try:
        # Two commands must not both find it stopped and both start it.
        with FileLock(run.root / ".start.lock", timeout=0):
            status = read_status(run)
            if status.state in ("RUNNING", "PENDING"):
                raise _active(run, f"is {status.state.lower()} already")
            if status.state == "COMPLETED":
                return Submission(run, None)
            run.result.unlink(missing_ok=True)
            return _start(run)
    except Timeout:
        raise _active(run, "is being started by another command") from None


def _active(run: RunDir, what: str) -> Refused:
    watch = f"watch it: shardline logs -f {name_to_type(run)}"
    return refuse("run.active", "RUN", f"{run.root.name} {what}", watch, ExitCode.REFUSED)


def _create(run: RunDir, composed: Composed, plan: RunPlan) -> None:
    """Fill a directory under another name and rename it: a run is whole, or it is not there."""
    staged = stage_run(run.root)
    try:
        freeze_code(staged.code)
        write_json(staged.deepspeed, plan.deepspeed)
        write_atomic(staged.config, composed.yaml)
        write_atomic(staged.root / "overrides.txt", "".join(f"{text}\n" for text in composed.overrides))
        write_json(staged.plan, plan)
        staged.root.rename(run.root)
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


def _start(run: RunDir) -> Submission:
    """Write the intent, start the job, write its id."""
    slurm = RunConfig.model_validate(yaml.safe_load(run.config.read_text())).slurm
    training = json.loads(run.plan.read_text())["training"]
    append_line(run.jobs, {"time": round(time.time(), 3), "intent": "submit", "executor": "local"})
    run.log_event("submitted", executor="local", host=os.uname().nodename)
    job_id = submit_local(
        LocalRequest(
            folder=run.root / "submitit",
            time_min=slurm.time_min,
            signal_delay_s=min(slurm.signal_delay_s, slurm.time_min * 30),
            gpus=training["ranks_per_node"] if training["device"] == "cuda" else 0,
            environ=_job_environ(run),
        ),
        run_node,
        str(run.root),
    )
    record_job(run, job_id)
    return Submission(run, job_id)


def _job_environ(run: RunDir) -> dict[str, str]:
    """The job runs what was frozen, and nothing that lies in the current folder."""
    inherited = os.environ.get("PYTHONPATH")
    environ = {
        "PYTHONPATH": f"{run.code}{os.pathsep}{inherited}" if inherited else str(run.code),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        environ[VISIBLE_DEVICES] = os.environ["CUDA_VISIBLE_DEVICES"]
    return environ
