"""What saving and restoring share on one rank."""

from dataclasses import dataclass

from train.checkpoint.progress import Topology
from train.checkpoint.store import CheckpointStore
from train.dist import Group
from train.faults import Faults
from train.rundir import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointScope:
    """A run's checkpoints as one attempt sees them."""

    run_dir: RunDir
    group: Group
    store: CheckpointStore
    topology: Topology
    attempt: int
    faults: Faults
