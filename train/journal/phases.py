"""The phases of a rank, which are named only here."""

from enum import StrEnum


class Phase(StrEnum):
    """The phase of a run; the value appears in the journal, in `status` and in `logs -f`."""

    IMPORTS = "imports"
    """Time from the start of the process to the next phase. The imports of a process that forks ranks count
    for the first ranks that it starts."""
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
    """The first step, which belongs to the start; used in the `start` event only."""
    TRAIN = "train"
    SAVE = "save"
    """The last save of an attempt; saves between steps are part of `train`."""
    ASSESS_TUNED = "assess tuned"
    EXPORT = "export"
