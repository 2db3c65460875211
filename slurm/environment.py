"""What a task learns of its place from the scheduler's variables. Never reads os.environ itself."""

from collections.abc import Mapping
from dataclasses import dataclass

_OF_A_JOB = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SLURMD_", "PMI_", "PMIX_")
_OF_THE_SITE = ("SLURM_CONF",)


def outside_of_jobs(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what a surrounding job, or SBATCH_* defaults, would tell Slurm's commands."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(_OF_A_JOB) or name in _OF_THE_SITE
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlace:
    """One task per node: which job, which node of how many."""

    job_id: str
    node: int
    nodes: int
    start: str
    """Tells starts of one job apart: the id and how often the job was requeued."""
    node_name: str | None
    """What Slurm calls this node; None under the local executor."""
    node_list: str | None
    """All nodes of the job, as Slurm writes them."""
    job_name: str | None
    """The name under which the job was submitted."""


def task_place(environ: Mapping[str, str]) -> TaskPlace:
    """The place of a task under either of Submitit's executors."""
    return _slurm_place(environ) if environ["SUBMITIT_EXECUTOR"] == "slurm" else _local_place(environ)


def _local_place(environ: Mapping[str, str]) -> TaskPlace:
    """The only node there is."""
    job_id = environ["SUBMITIT_LOCAL_JOB_ID"]
    return TaskPlace(
        job_id=job_id, node=0, nodes=1, start=job_id, node_name=None, node_list=None, job_name=None
    )


def _slurm_place(environ: Mapping[str, str]) -> TaskPlace:
    job_id, restarts = environ["SLURM_JOB_ID"], environ.get("SLURM_RESTART_COUNT", "0")
    return TaskPlace(
        job_id=job_id,
        node=int(environ["SLURM_NODEID"]),
        nodes=int(environ["SLURM_JOB_NUM_NODES"]),
        start=f"{job_id}.{restarts}",
        node_name=environ["SLURMD_NODENAME"],
        node_list=environ["SLURM_JOB_NODELIST"],
        job_name=environ["SLURM_JOB_NAME"],
    )
