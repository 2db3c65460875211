"""What Slurm says of jobs, parsed and put into plain words. Pure."""

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
    "Priority": "jobs of higher priority come first",
    "Resources": "it is next; the nodes that it needs are busy",
    "Dependency": "it waits for another job",
    "DependencyNeverSatisfied": "the job that it waits for ended otherwise; it will never start: cancel it",
    "JobHeldUser": "it is held by you: scontrol release",
    "JobHeldAdmin": "it is held by an administrator: ask them",
    "BeginTime": "its start time has not come",
    "Licenses": "a licence that it needs is in use",
    "Reservation": "its reservation has not begun",
    "InvalidQOS": "its qos does not exist or is not yours",
    "InvalidAccount": "its account does not exist or is not yours",
    "PartitionTimeLimit": "slurm.time_min is more than the partition allows; it will never start",
    "PartitionNodeLimit": "it asks for more nodes than the partition allows; it will never start",
    "PartitionDown": "the partition takes jobs but starts none now",
    "PartitionInactive": "the partition is inactive",
    "ReqNodeNotAvail": "nodes that it must have are down, drained or reserved",
    "NodeDown": "a node that it needs is down",
    "BadConstraints": "no node can satisfy what it asks for; it will never start",
    "JobArrayTaskLimit": "as many tasks of its array run as may at once",
    "QOSJobLimit": "the qos has as many jobs as it may",
    "launch failed requeued held": "Slurm could not start it and holds it: scontrol release",
    "None": "Slurm has not looked at it yet",
}
_LIMITS = {
    "QOSMax": "the qos lets you use no more at once",
    "QOSGrp": "the qos as a whole is at its limit",
    "QOSMin": "it asks for less than the qos wants; it will never start",
    "AssocMax": "your account lets you use no more at once",
    "AssocGrp": "your account as a whole is at its limit",
    "MaxMem": "it asks for more memory than is allowed",
    "ReqNodeNotAvail": _REASONS["ReqNodeNotAvail"],
    "Nodes required for job are DOWN": _REASONS["ReqNodeNotAvail"],
}
_ENDINGS = {
    "COMPLETED": "its script ended well",
    "CANCELLED": "it was cancelled in Slurm",
    "TIMEOUT": "it ran into its time limit before it had saved; raise slurm.signal_delay_s",
    "PREEMPTED": "it was preempted",
    "NODE_FAIL": "a node failed",
    "BOOT_FAIL": "a node did not boot",
    "OUT_OF_MEMORY": "Slurm killed it for its memory; ask for more: slurm.mem_per_gpu_gb",
    "DEADLINE": "its deadline passed",
    "REQUEUED": "it was requeued",
    "FAILED": "its script ended badly",
    "REVOKED": "another cluster took it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job as Slurm knows it."""

    job_id: str
    state: str
    name: str
    start: str | None
    """When it started, or is expected to; local time as Slurm prints it."""
    nodes: str
    reason: str

    @property
    def key(self) -> str:
        """The name, with the index inside an array."""
        index = self.job_id.partition("_")[2]
        return job_key(self.name, index or None)

    @property
    def phase(self) -> Phase:
        """Whether it waits, holds nodes, or is over."""
        if self.state in _WAITING:
            return "waiting"
        return "active" if self.state in _ACTIVE else "ended"


def parse_jobs(text: str) -> list[JobRecord]:
    """Lines of squeue in SQUEUE_FORMAT or of sacct in SACCT_FIELDS; the last field may hold anything."""
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
    """Why a job does not run yet, in words, with Slurm's own word and its estimate of the start."""
    plain = _REASONS.get(record.reason) or _by_prefix(record.reason) or "Slurm gives a reason of its own"
    start = f"; expected to start {record.start.replace('T', ' ')}" if record.start else ""
    return f"{plain} ({record.reason}){start}"


def why_ended(state: str) -> str:
    """What a final state means, in words."""
    return _ENDINGS.get(state, f"Slurm calls it {state}")


def _by_prefix(reason: str) -> str | None:
    return next((words for prefix, words in _LIMITS.items() if reason.startswith(prefix)), None)


def newest(records: Iterable[JobRecord]) -> dict[str, JobRecord]:
    """By key: the job that matters, the one with the highest id."""
    found: dict[str, JobRecord] = {}
    for record in sorted(records, key=lambda record: int(record.job_id.partition("_")[0].partition("+")[0])):
        found[record.key] = record
    return found
