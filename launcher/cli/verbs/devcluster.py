"""`shardline devcluster`."""

import argparse
from pathlib import Path

from launcher.cli.verb import Verb


def devcluster(options: argparse.Namespace) -> int:
    """Start or stop the cluster, then print whether it runs and how commands find it."""
    from launcher.cli.output import make_console, print_json
    from launcher.errors import refuse
    from slurm.devcluster.cluster import ClusterError, down, is_up, up
    from slurm.devcluster.daemons import DaemonError
    from slurm.devcluster.packages import MissingProgramsError

    root = options.dir.expanduser().resolve()
    console = make_console()

    def report_progress(line: str) -> None:
        if not options.json:
            console.print(f"starting {line}", highlight=False)

    try:
        if options.action == "up":
            up(
                root,
                nodes=options.nodes,
                accounting=not options.no_accounting,
                report_progress=report_progress,
            )
        elif options.action == "down":
            down(root)
    except (ClusterError, DaemonError, MissingProgramsError) as error:
        raise refuse(
            "devcluster", "devcluster", str(error), "fix the cause named above, then: shardline devcluster up"
        ) from error
    running = is_up(root)
    environ = f"SLURM_CONF={root}/slurm.conf"
    if options.json:
        print_json({"running": running, "dir": str(root), "slurm_conf": f"{root}/slurm.conf"})
    elif running:
        console.print(f"the cluster in {root} is up; to use it:\n  export {environ}", soft_wrap=True)
    else:
        console.print(f"no cluster is running in {root}", soft_wrap=True)
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("up", "down", "status"), help="start, stop, or show the cluster")
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(".devcluster"),
        help="folder for its configuration, logs and state (default: .devcluster)",
    )
    parser.add_argument(
        "--nodes", type=int, default=4, choices=range(1, 17), metavar="N", help="1 to 16 (default: 4)"
    )
    parser.add_argument(
        "--no-accounting", action="store_true", help="do not start the accounting database (no sacct)"
    )


VERB = Verb(
    name="devcluster",
    help="Start, stop or show a real Slurm on this machine, to try jobs without a cluster",
    example="shardline devcluster up --nodes 2",
    options=_options,
    run=devcluster,
)
