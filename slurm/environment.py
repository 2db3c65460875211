"""What a task learns of its place from the scheduler's variables. Never reads os.environ itself."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlace:
    """One task per node: which job, which node of how many."""

    job_id: str
    node: int
    nodes: int
    start: str
    """Tells starts of one job apart: the id and how often the job was requeued."""


def local_place(environ: Mapping[str, str]) -> TaskPlace:
    """The place of a task under Submitit's local executor: the only node there is."""
    job_id = environ["SUBMITIT_LOCAL_JOB_ID"]
    return TaskPlace(job_id=job_id, node=0, nodes=1, start=job_id)
