"""`shardline resume`."""

import argparse

from launcher.cli.completers import complete_keys, complete_single_runs
from launcher.cli.verb import Verb, add_follow, add_overrides, add_run, completed_by


def resume(options: argparse.Namespace) -> int:
    """Start a stopped or failed run again, with changed settings if overrides are given."""
    from launcher.cli.started import run_started
    from launcher.lifecycle.submit import change_run, recomposed, resume_run
    from launcher.records.runs import find_run

    run = find_run(options.run)
    if not options.overrides:
        return run_started(options, resume_run(run, allowed=options.allow_change))
    composed, plan = recomposed(run, options.overrides, options.conf)
    return run_started(options, change_run(run, composed, plan, options.allow_change))


def _options(parser: argparse.ArgumentParser) -> None:
    add_run(parser, completer=complete_single_runs)
    add_overrides(parser)
    allow = parser.add_argument(
        "--allow-change",
        action="append",
        default=[],
        metavar="KEY",
        help="allow another value of a key that the training so far depends on; the change is recorded",
    )
    completed_by(allow, complete_keys)
    add_follow(parser)


VERB = Verb(
    name="resume",
    help="Continue a run from its newest verified checkpoint, with new settings if given",
    example="shardline resume smoke hardware.gpus_per_node=1 --follow",
    options=_options,
    run=resume,
)
