"""`shardline logs`."""

import argparse
import time

from launcher.cli.completers import complete_single_runs
from launcher.cli.verb import Verb, add_run


def logs(options: argparse.Namespace) -> int:
    """Print the log lines of one attempt, with -f until the run ends."""
    from launcher.cli.output import print_line
    from launcher.records.runs import find_run
    from launcher.status.logs import as_json, attempts_with_logs, first_error, follow, line_filter, log_files
    from launcher.status.queue import RecentView
    from launcher.status.runs import read_status
    from launcher.status.state import ALIVE

    run = find_run(options.run)
    recent = RecentView()
    wanted = line_filter(options.grep)

    def alive() -> bool:
        return options.follow and read_status(run, recent.look).state in ALIVE

    while not any(run.attempt_logs(1).glob("rank_*.log")) and alive():
        time.sleep(0.2)
    log_files(run, options.attempt, options.rank)
    attempt = options.attempt or attempts_with_logs(run)[-1]
    if (first := first_error(run, attempt)) and not options.json:
        print_line(f"{first}\n")
    for label, line in follow(lambda: log_files(run, options.attempt, options.rank), alive):
        if wanted.search(line):
            print_line(as_json(label, line) if options.json else f"[{label}] {line}")
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    add_run(parser, completer=complete_single_runs)
    parser.add_argument("-f", "--follow", action="store_true", help="print new lines until the run ends")
    parser.add_argument(
        "--grep", metavar="PATTERN", help="print only lines that match this regular expression"
    )
    parser.add_argument("--rank", type=int, metavar="N", help="print only the log of this rank")
    parser.add_argument("--attempt", type=int, metavar="N", help="which attempt (default: the last)")


VERB = Verb(
    name="logs",
    help="Print the output of ranks and nodes, merged by time, the first error first",
    example="shardline logs smoke --rank 0 -f",
    options=_options,
    run=logs,
)
