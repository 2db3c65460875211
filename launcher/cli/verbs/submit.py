"""`shardline submit`."""

import argparse

from launcher.cli.verb import Verb, add_follow, add_multirun


def submit(options: argparse.Namespace) -> int:
    """Plan and start a run or a sweep; with --dry-run only plan it."""
    from launcher.cli.planned import is_sweep, refuse_sweep_options
    from launcher.cli.started import run_started
    from launcher.cli.verbs.plan import plan
    from launcher.compose.run import compose_run
    from launcher.lifecycle.submit import submit_run

    if options.dry_run:
        return plan(options)
    if is_sweep(options):
        return _submit_sweep(options)
    refuse_sweep_options(options, ("failed", "all"))
    return run_started(options, submit_run(compose_run(options.overrides, options.conf)))


def _submit_sweep(options: argparse.Namespace) -> int:
    """Plan a sweep and start its missing trials, or those that the options select."""
    from launcher.cli.planned import planned_sweep
    from launcher.cli.started import sweep_started
    from launcher.errors import Refused
    from launcher.planning.preflight import exit_code_for
    from launcher.sweep.start import Which, submit_sweep

    made, problems = planned_sweep(options)
    if problems or made is None:
        raise Refused(problems, exit_code_for(problems))
    which: Which = "all" if options.all else "failed" if options.failed else "missing"
    return sweep_started(options, submit_sweep(made, which))


def _options(parser: argparse.ArgumentParser) -> None:
    add_multirun(parser)
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--failed", action="store_true", help="(sweeps) start only trials that failed or were killed"
    )
    again.add_argument(
        "--all", action="store_true", help="(sweeps) rerun every trial; previous results are archived"
    )
    add_follow(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the plan and create nothing")


VERB = Verb(
    name="submit",
    help="Start a run, or with -m a sweep, and return immediately",
    example="shardline submit experiment=smoke optim.lr=1e-3 --follow",
    options=_options,
    run=submit,
    creates_runs=True,
)
