"""`shardline plan`."""

import argparse

from launcher.cli.verb import Verb, add_multirun


def plan(options: argparse.Namespace) -> int:
    """Compose and check a config, and show the plan of the run or the sweep."""
    from launcher.cli.output import print_plan
    from launcher.cli.planned import is_sweep, planned_sweep
    from launcher.cli.show import plan as show_run
    from launcher.cli.show import sweep as show_sweep
    from launcher.compose.run import compose_run
    from launcher.planning.preflight import examine

    if is_sweep(options):
        return print_plan(options, *planned_sweep(options), show_sweep.plan_as_json, show_sweep.show_plan)
    planned = examine(compose_run(options.overrides, options.conf))
    return print_plan(options, *planned, show_run.plan_as_json, show_run.show_plan)


VERB = Verb(
    name="plan",
    help="Check a config and show what would run: batch, memory, disk, time; create nothing",
    example="shardline plan experiment=smoke zero=stage3 optim.lr=1e-3",
    options=add_multirun,
    run=plan,
    creates_runs=True,
)
