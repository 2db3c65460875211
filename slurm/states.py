"""Slurm's job states and reasons: parsing and plain descriptions. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from slurm.environment import job_key

Phase = Literal["waiting", "active", "ended"]

SQUEUE_FORMAT = "%i|%T|%j|%S|%N|%r"
SACCT_FIELDS = "JobID,State,JobName,Start,NodeList,Reason"
_WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
_ACTIVE = {
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
}
_REASONS = {
    "Priority": "jobs with higher priority are ahead of it",
    "Resources": "it is next in line; the nodes that it needs are busy",
    "Dependency": "it depends on a job that has not ended",
    "DependencyNeverSatisfied": "its dependency can no longer be met, so it will never start: cancel it",
    "JobHeldUser": "held by you; release it with: scontrol release",
    "JobHeldAdmin": "held by an administrator; ask them to release it",
    "BeginTime": "its earliest start time has not been reached",
    "Licenses": "a licence that it needs is in use",
    "Reservation": "its reservation has not started",
    "InvalidQOS": "slurm.qos does not exist or you may not use it",
    "InvalidAccount": "slurm.account does not exist or you may not use it",
    "PartitionTimeLimit": "slurm.time_min exceeds the partition's limit, so it will never start",
    "PartitionNodeLimit": "it requests more nodes than the partition allows, so it will never start",
    "PartitionDown": "the partition is down: it accepts jobs but starts none",
    "PartitionInactive": "the partition is inactive",
    "ReqNodeNotAvail": "nodes that it requires are down, drained or reserved",
    "NodeDown": "a node that it needs is down",
    "BadConstraints": "no node satisfies its constraints, so it will never start",
    "JobArrayTaskLimit": "the maximum number of its array's tasks is running",
    "QOSJobLimit": "the qos has reached its maximum number of jobs",
    "launch failed requeued held": "Slurm could not start it and holds it; release it with: scontrol release",
    "None": "Slurm has not scheduled it yet",
}
_LIMITS = {
    "QOSMax": "you have reached your limit in this qos",
    "QOSGrp": "the qos has reached its limit for all users together",
    "QOSMin": "it requests less than the minimum of the qos, so it will never start",
    "AssocMax": "you have reached the limit of your account",
    "AssocGrp": "the account has reached its limit for all users together",
    "MaxMem": "it requests more memory than is allowed",
    "ReqNodeNotAvail": _REASONS["ReqNodeNotAvail"],
    "Nodes required for job are DOWN": _REASONS["ReqNodeNotAvail"],
}
_ENDINGS = {
    "COMPLETED": "its script succeeded",
    "CANCELLED": "it was cancelled in Slurm",
    "TIMEOUT": "it reached its time limit before it had saved; raise slurm.signal_delay_s",
    "PREEMPTED": "it was preempted",
    "NODE_FAIL": "a node failed",
    "BOOT_FAIL": "a node did not boot",
    "OUT_OF_MEMORY": "it exceeded its host memory and Slurm killed it; raise slurm.mem_per_gpu_gb",
    "DEADLINE": "its deadline passed",
    "REQUEUED": "it was requeued",
    "FAILED": "its script failed",
    "REVOKED": "another cluster of the federation runs it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job as reported by squeue or sacct."""

    job_id: str
    state: str
    name: str
    start: str | None
    """Actual or expected start in Slurm's format, in local time."""
    nodes: str
    reason: str

    @property
    def key(self) -> str:
        """The job's name with its index in an array (`job_key`)."""
        index = self.job_id.partition("_")[2]
        return job_key(self.name, index or None)

    @property
    def phase(self) -> Phase:
        """Whether the job is waiting, holds nodes, or has ended."""
        if self.state in _WAITING:
            return "waiting"
        return "active" if self.state in _ACTIVE else "ended"


def parse_jobs(text: str) -> list[JobRecord]:
    """Parse the output of squeue (SQUEUE_FORMAT) or sacct (SACCT_FIELDS); the last field may contain `|`."""
    return [_parse(line) for line in text.splitlines() if line.count("|") >= 5]


def _parse(line: str) -> JobRecord:
    job_id, state, name, start, nodes, reason = line.split("|", maxsplit=5)
    return JobRecord(
        job_id=job_id,
        state=state.split(" ")[0].rstrip("+"),
        name=name,
        start=start if start[:1].isdigit() else None,
        nodes="" if nodes == "None assigned" else nodes,
        reason=reason.strip("()"),
    )


def why_waiting(record: JobRecord) -> str:
    """Return why a job is pending: a description, Slurm's reason code and the expected start."""
    plain = _REASONS.get(record.reason) or _by_prefix(record.reason) or "pending for another reason"
    start = f"; expected to start {record.start.replace('T', ' ')}" if record.start else ""
    return f"{plain} ({record.reason}){start}"


def why_ended(state: str) -> str:
    """Return a description of a final state."""
    return _ENDINGS.get(state, f"its final state in Slurm is {state}")


def _by_prefix(reason: str) -> str | None:
    return next((words for prefix, words in _LIMITS.items() if reason.startswith(prefix)), None)


def newest(records: Iterable[JobRecord]) -> dict[str, JobRecord]:
    """Return the newest job of each key, which is the one with the highest id."""
    found: dict[str, JobRecord] = {}
    for record in sorted(records, key=lambda record: int(record.job_id.partition("_")[0].partition("+")[0])):
        found[record.key] = record
    return found
