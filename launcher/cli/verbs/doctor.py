"""`shardline doctor`."""

import argparse

from launcher.cli.verb import Verb, add_overrides


def doctor(options: argparse.Namespace) -> int:
    """Print the findings; exit code 2 if one of them is an error."""
    from launcher.cli.output import make_console, print_json
    from launcher.cli.show.checks import show_findings
    from launcher.doctor.machine import check_here, check_node
    from launcher.doctor.ops import build_ops, check_ops

    console = make_console()

    def report_progress(line: str) -> None:
        if not options.json:
            console.print(line, highlight=False)

    findings = check_here()
    findings += build_ops(report_progress) if options.build_ops else check_ops()
    if options.job:
        from launcher.compose.run import compose_run

        overrides = ["experiment=smoke", "slurm=cluster", *options.overrides]
        findings += check_node(compose_run(overrides, options.conf).config)
    if options.json:
        print_json(findings)
    else:
        show_findings(console, findings)
    return 2 if any(finding.level == "wrong" for finding in findings) else 0


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--job", action="store_true", help="submit a one-minute job that checks a compute node as well"
    )
    parser.add_argument(
        "--build-ops",
        action="store_true",
        help="compile the C++ kernels of DeepSpeed that runs on this machine may use",
    )
    add_overrides(parser)


VERB = Verb(
    name="doctor",
    help="Check this machine, and with --job a compute node of the cluster",
    example="shardline doctor --job slurm.partition=gpu",
    options=_options,
    run=doctor,
)
