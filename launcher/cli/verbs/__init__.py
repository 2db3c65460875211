"""The table of verbs, in the order and the groups of `shardline --help`.

A new verb is one file in this folder, with a `VERB` at its end, and one name in the table. Verb files import
what they need inside their functions, so that `--help` and completion stay fast.
"""

from launcher.cli.verb import Verb
from launcher.cli.verbs import (
    cancel,
    checkpoints,
    completion,
    devcluster,
    doctor,
    export,
    logs,
    plan,
    refine,
    rehearse,
    report,
    results,
    resume,
    status,
    stop,
    submit,
)

GROUPS: dict[str, tuple[Verb, ...]] = {
    "run": (plan.VERB, submit.VERB, resume.VERB, stop.VERB, cancel.VERB),
    "look": (status.VERB, logs.VERB, results.VERB, report.VERB),
    "sweeps": (refine.VERB,),
    "checkpoints": (checkpoints.VERB, export.VERB),
    "machine": (doctor.VERB, rehearse.VERB, devcluster.VERB, completion.VERB),
}
