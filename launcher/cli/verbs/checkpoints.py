"""`shardline checkpoints`."""

import argparse

from launcher.cli.completers import complete_single_runs
from launcher.cli.verb import Verb, add_run


def checkpoints(options: argparse.Namespace) -> int:
    """List the checkpoints, newest first; exit code 2 if one of them is not usable."""
    from launcher.cli.output import make_console, print_json
    from launcher.cli.show.checks import show_checkpoints
    from launcher.records.runs import find_run
    from train.checkpoint.manifest import verify
    from train.checkpoint.store import CheckpointStore

    verdicts = CheckpointStore(find_run(options.run).checkpoints).verdicts()
    if options.verify:
        verdicts = [verify(verdict) for verdict in verdicts]
    if options.json:
        print_json(
            [
                {
                    "dir": str(verdict.path),
                    "usable": verdict.usable,
                    "verified": options.verify,
                    "problem": verdict.problem,
                    "bytes": verdict.manifest.nbytes if verdict.manifest else None,
                    "manifest": verdict.manifest.model_dump(exclude={"files"}) if verdict.manifest else None,
                }
                for verdict in verdicts
            ]
        )
    else:
        show_checkpoints(make_console(), verdicts, verified=options.verify)
    return 0 if all(verdict.usable for verdict in verdicts) else 2


def _options(parser: argparse.ArgumentParser) -> None:
    add_run(parser, completer=complete_single_runs)
    parser.add_argument(
        "--verify", action="store_true", help="read every file and compare its checksum, not just sizes"
    )


VERB = Verb(
    name="checkpoints",
    help="List the checkpoints of a run: step, size, ranks, age, and whether each is usable",
    example="shardline checkpoints smoke --verify",
    options=_options,
    run=checkpoints,
)
