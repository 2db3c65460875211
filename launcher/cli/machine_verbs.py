"""The verbs about machines rather than runs. Imports wait until a verb needs them."""

import argparse

from launcher.cli.output import make_console, print_json


def doctor(options: argparse.Namespace) -> int:
    """Check this machine, and with --job a node of the cluster against it."""
    from launcher.cli.show_checks import show_findings
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


def devcluster(options: argparse.Namespace) -> int:
    """A real Slurm on this machine, to try things without a cluster: up, down or status."""
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
        raise refuse("devcluster", "devcluster", str(error), "see the message") from error
    running = is_up(root)
    environ = f"SLURM_CONF={root}/slurm.conf"
    if options.json:
        print_json({"running": running, "dir": str(root), "slurm_conf": f"{root}/slurm.conf"})
    elif running:
        console.print(f"a cluster runs in {root}; commands find it with:\n  export {environ}", soft_wrap=True)
    else:
        console.print(f"no cluster runs in {root}", soft_wrap=True)
    return 0
