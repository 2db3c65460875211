"""The place of a task in its job, from the scheduler's environment variables. Does not read os.environ."""

from collections.abc import Mapping
from dataclasses import dataclass

_OF_A_JOB = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SLURMD_", "PMI_", "PMIX_")
_OF_THE_SITE = ("SLURM_CONF",)


def outside_of_jobs(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables of a surrounding job and without SBATCH_* defaults."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(_OF_A_JOB) or name in _OF_THE_SITE
    }


def job_key(name: str, index: str | int | None) -> str:
    """Return the unique key of a job, which is known before its id: its name and its index in an array."""
    return name if index is None else f"{name}[{index}]"


def job_name_of(key: str) -> str:
    """Return Slurm's job name of a key."""
    return key.partition("[")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlace:
    """The job and the node of a task; each node has one task."""

    job_id: str
    node: int
    nodes: int
    start: str
    """Identifies one start of the job: the id and the number of requeues."""
    node_name: str | None
    """Slurm's name of this node; None under the local executor."""
    node_list: str | None
    """All nodes of the job in Slurm's notation."""
    job_name: str | None
    """The key of the job (`job_key`)."""


def task_place(environ: Mapping[str, str]) -> TaskPlace:
    """Return the place of a task under either of Submitit's executors."""
    return _slurm_place(environ) if environ["SUBMITIT_EXECUTOR"] == "slurm" else _local_place(environ)


def _local_place(environ: Mapping[str, str]) -> TaskPlace:
    """Return the place of a task under the local executor, which has one node."""
    job_id = environ["SUBMITIT_LOCAL_JOB_ID"]
    return TaskPlace(
        job_id=job_id, node=0, nodes=1, start=job_id, node_name=None, node_list=None, job_name=None
    )


def job_id_here(environ: Mapping[str, str]) -> str:
    """Return the id that Slurm's commands print and accept: ARRAY_INDEX inside an array."""
    if "SLURM_ARRAY_JOB_ID" in environ:
        return f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ["SLURM_JOB_ID"]


def _slurm_place(environ: Mapping[str, str]) -> TaskPlace:
    job_id, restarts = job_id_here(environ), environ.get("SLURM_RESTART_COUNT", "0")
    return TaskPlace(
        job_id=job_id,
        node=int(environ["SLURM_NODEID"]),
        nodes=int(environ["SLURM_JOB_NUM_NODES"]),
        start=f"{job_id}.{restarts}",
        node_name=environ["SLURMD_NODENAME"],
        node_list=environ["SLURM_JOB_NODELIST"],
        job_name=job_key(environ["SLURM_JOB_NAME"], environ.get("SLURM_ARRAY_TASK_ID")),
    )
