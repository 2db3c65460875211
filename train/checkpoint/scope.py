"""The objects that saving and restoring share on one rank."""

from dataclasses import dataclass

from train.checkpoint.progress import Topology
from train.checkpoint.store import CheckpointStore
from train.dist import Group
from train.faults import Faults
from train.rundir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointScope:
    """The checkpoints of a run, within one attempt."""

    run_dir: RunDir
    group: Group
    store: CheckpointStore
    topology: Topology
    attempt: int
    faults: Faults
