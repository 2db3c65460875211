"""The phases of a rank's life. They are named here and nowhere else."""

from enum import StrEnum


class Phase(StrEnum):
    """What a run does now; `status` and `logs -f` show the value, and the journal holds it."""

    IMPORTS = "imports"
    """From the start of the process to the first other phase. The imports of a process that ranks are forked
    from count for the first ranks that it starts."""
    PREPARE_MODEL = "prepare model"
    PREPARE_DATA = "prepare data"
    PROCESS_GROUP = "process group"
    LOAD_MODEL = "load model"
    ENGINE = "engine"
    TRACKING = "tracking"
    RESTORE = "restore"
    """Finding, verifying and loading a checkpoint."""
    ASSESS_BASE = "assess base"
    FIRST_STEP = "first step"
    """The part of `train` that belongs to the start; only the `start` event names it."""
    TRAIN = "train"
    SAVE = "save"
    """The last save of an attempt; those between steps are part of `train`."""
    ASSESS_TUNED = "assess tuned"
    EXPORT = "export"
