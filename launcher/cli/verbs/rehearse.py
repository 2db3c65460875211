"""`shardline rehearse`."""

import argparse

from launcher.cli.verb import Verb, add_overrides


def rehearse(options: argparse.Namespace) -> int:
    """Train twice, once with a stop and a kill, and print what is equal; exit code 4 if something differs."""
    from launcher.cli.output import make_console, print_json
    from launcher.cli.show.checks import show_drill
    from launcher.compose.run import compose_run
    from launcher.lifecycle.rehearse import rehearse as drill

    console = make_console()

    def report_progress(line: str) -> None:
        if not options.json:
            console.print(line, style="dim", markup=False, highlight=False)

    composed = compose_run(options.overrides, options.conf)
    items = drill(
        composed, steps=options.steps, within_min=options.within_min, report_progress=report_progress
    )
    if options.json:
        print_json(items)
    else:
        show_drill(console, items)
    return 0 if all(item.equal for item in items) else 4


def _options(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser)
    parser.add_argument(
        "--steps", type=int, default=12, metavar="N", help="steps of each of the two trainings (default: 12)"
    )
    parser.add_argument(
        "--within-min",
        type=float,
        default=120.0,
        metavar="MINUTES",
        help="give up after this time, waiting in the queue included (default: 120)",
    )


VERB = Verb(
    name="rehearse",
    help="Train a config for a few steps, with and without interruption, and compare the results",
    example="shardline rehearse experiment=demo --steps 8",
    options=_options,
    run=rehearse,
)
