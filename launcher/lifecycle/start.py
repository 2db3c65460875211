"""Start the job of an existing run. Executors are called only here."""

import os
import sys
from collections.abc import Callable

from launcher.errors import Refused, refuse
from launcher.node.entry import VISIBLE_DEVICES, run_node
from launcher.planning.plan import slurm_script
from launcher.records.jobs import intents, next_name, record_intent, record_job
from launcher.records.runs import load_config
from slurm.client import SlurmAwayError, SlurmError, is_away, patiently, queue
from slurm.config import SlurmConfig
from slurm.executor import LocalRequest, SlurmRequest, SubmissionError, submit_local, submit_slurm
from train.failures import ExitCode
from train.job import read_training_plan
from train.journal.events import Submitted
from train.result import Failed, write_result
from train.rundir import RunDir

NOT_SUBMITTED = "slurm.refused"
"""Problem code of a job that Slurm did not accept."""


def start_job(run: RunDir, stop_at_step: int | None = None) -> str:
    """Record the intent, start the job, and record its id.

    Args:
        run: The run to start.
        stop_at_step: Step at which the run saves and stops; None trains to the end.

    Returns:
        The id of the job.

    Raises:
        Refused: Slurm did not accept the job.
    """
    run.adopt_umask()
    run.stop_request.unlink(missing_ok=True)
    run.ask_to_pause(stop_at_step)
    config = load_config(run)
    start = _start_slurm if config.slurm.executor == "slurm" else _start_local
    return start(run, config.slurm)


def _start_local(run: RunDir, slurm: SlurmConfig) -> str:
    training = read_training_plan(run)
    record_intent(run, "local", None)
    run.log(Submitted(executor="local", host=os.uname().nodename))
    job_id = submit_local(
        LocalRequest(
            folder=run.root / "submitit",
            time_min=slurm.time_min,
            signal_delay_s=min(slurm.signal_delay_s, slurm.time_min * 30),
            gpus=training.ranks_per_node if training.device == "cuda" else 0,
            environ=_local_environ(run),
        ),
        run_node,
        str(run.root),
    )
    record_job(run, job_id, None)
    return job_id


def _local_environ(run: RunDir) -> dict[str, str]:
    """Return variables that make the job import the frozen sources, and nothing from the current folder."""
    inherited = os.environ.get("PYTHONPATH")
    environ = {
        "PYTHONPATH": f"{run.code}{os.pathsep}{inherited}" if inherited else str(run.code),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return environ | visible_devices()


def visible_devices() -> dict[str, str]:
    """Return the user's CUDA_VISIBLE_DEVICES, if set, under a name that the local executor keeps."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {} if chosen is None else {VISIBLE_DEVICES: chosen}


def _start_slurm(run: RunDir, slurm: SlurmConfig) -> str:
    training = read_training_plan(run)
    name = next_name(run.root.name, str(run.root), len(intents(run)))
    script = slurm_script(slurm, training, run.root, name=name, python=sys.executable)
    request = SlurmRequest(folder=run.root / "submitit", script=script, nodes=training.nodes)
    record_intent(run, "slurm", name)
    run.log(Submitted(executor="slurm", name=name))
    try:
        job_id = submit_once(name, request, run_node, str(run.root))
    except (SubmissionError, SlurmError) as error:
        raise _not_submitted(run, str(error)) from error
    record_job(run, job_id, name)
    return job_id


def submit_once(name: str, request: SlurmRequest, function: Callable[[str], object], root: str) -> str:
    """Submit a job exactly once, even if the answer of sbatch is lost.

    Before each retry, the queue is searched for the name of the job.

    Args:
        name: Unique name of the job.
        request: The script, and the number of nodes.
        function: The function to run on each node.
        root: Its argument, the run directory or sweep directory.

    Returns:
        The id of the job, or of the whole array.

    Raises:
        SubmissionError: Slurm did not accept the job.
        SlurmAwayError: The controller did not answer.
    """
    tries = 0

    def submit() -> str:
        nonlocal tries
        tries += 1
        if tries > 1 and (record := next((record for record in queue() if record.name == name), None)):
            return record.job_id.partition("_")[0]
        try:
            return submit_slurm(request, function, root)
        except SubmissionError as error:
            raise SlurmAwayError(str(error)) if is_away(str(error)) else error from error

    return patiently(submit)


def _not_submitted(run: RunDir, stderr: str) -> Refused:
    why = f"Slurm did not accept the job: {stderr}"
    write_result(run, Failed(reason=why, exit_code=ExitCode.REFUSED))
    return refuse(NOT_SUBMITTED, "slurm", why, "fix the slurm settings and submit again", ExitCode.REFUSED)
