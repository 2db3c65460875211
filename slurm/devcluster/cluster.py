"""Starting and removing a development cluster."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from slurm.devcluster.daemons import DaemonError, end_all, processes_of, start, succeeds, wait_until
from slurm.devcluster.layout import ClusterLayout, gres_conf, slurm_conf, slurmdbd_conf
from slurm.devcluster.packages import ensure_programs

_MARKER = ".shardline-devcluster"
_LONGEST_SOCKET = 100
"""The path of a Unix socket has at most 107 characters."""
ProgressReport = Callable[[str], None]


class ClusterError(Exception):
    """The directory cannot be used; the message has the reason and what to do."""


def up(root: Path, *, nodes: int, accounting: bool, report_progress: ProgressReport) -> ClusterLayout:
    """Start munge, the controller, the nodes and, with accounting, a private database.

    Args:
        root: Directory of the cluster.
        nodes: Number of nodes.
        accounting: Whether to start the accounting database.
        report_progress: Called with a line of text before each step.

    Returns:
        The layout of the running cluster.

    Raises:
        ClusterError: The directory is in use, has other content, or its path is too long.
        MissingProgramsError: Slurm is not installed and cannot be installed.
        DaemonError: A daemon did not start; all others have been ended.
    """
    _claim(root)
    report_progress("programs")
    ensure_programs(accounting=accounting)
    layout = ClusterLayout(
        root=root,
        nodes=nodes,
        accounting=accounting,
        user=getpass.getuser(),
        host=socket.gethostname(),
        ports=_free_ports(2 + nodes),
    )
    try:
        _write(layout)
        _start_munge(layout)
        if accounting:
            report_progress("database and slurmdbd")
            _start_accounting(layout)
        report_progress(f"slurmctld and {nodes} nodes")
        _start_slurm(layout)
    except BaseException:
        end_all(root)
        raise
    return layout


def down(root: Path) -> bool:
    """End every process of a cluster, jobs included, and remove its directory.

    Returns:
        Whether there was a cluster.

    Raises:
        ClusterError: The directory was not made by `up`.
    """
    if not root.exists():
        return False
    if not (root / _MARKER).is_file():
        raise ClusterError(f"{root} was not made by devcluster up; nothing was removed")
    end_all(root)
    shutil.rmtree(root)
    return True


def is_up(root: Path) -> bool:
    """Return whether a cluster runs from this directory."""
    return (root / _MARKER).is_file() and bool(processes_of(root))


def _claim(root: Path) -> None:
    if len(str(root / "munge.socket")) > _LONGEST_SOCKET:
        raise ClusterError(f"the path {root} is too long for Unix sockets; choose a shorter --dir")
    if any(character in str(root) for character in " %\"'\\,"):
        raise ClusterError(
            f"invalid path {root}: Slurm's files allow no space, comma, quote, % or backslash in it;"
            " choose another --dir"
        )
    if root.exists() and not (root / _MARKER).is_file() and any(root.iterdir()):
        raise ClusterError(f"{root} is not empty and has no development cluster; choose another --dir")
    if is_up(root):
        raise ClusterError(f"a cluster already runs in {root}; end it first: shardline devcluster down")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True, mode=0o755)
    (root / _MARKER).touch()


def _write(layout: ClusterLayout) -> None:
    for name in ("log", "state", "spool", "gpu", *(f"spool/{node}" for node in layout.node_names)):
        (layout.root / name).mkdir(mode=0o755)
    for node in layout.node_names:
        for number in range(2):
            (layout.root / "gpu" / f"{node}_{number}").touch()
    layout.slurm_conf.write_text(slurm_conf(layout))
    (layout.root / "gres.conf").write_text(gres_conf(layout))
    dbd = layout.root / "slurmdbd.conf"
    dbd.touch(mode=0o600)
    dbd.write_text(slurmdbd_conf(layout))
    key = layout.root / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))


def _start_munge(layout: ClusterLayout) -> None:
    root = layout.root
    files = {name: f"{root}/munge.{name}" for name in ("pid", "seed")}
    start(
        "munged",
        "--foreground",
        "--force",
        f"--socket={layout.munge_socket}",
        f"--key-file={root}/munge.key",
        f"--log-file={layout.log_dir}/munged.log",
        f"--pid-file={files['pid']}",
        f"--seed-file={files['seed']}",
        root=root,
        environ={},
    )
    wait_until(layout.munge_socket.exists, "munged", layout.log_dir / "munged.out")


def _start_accounting(layout: ClusterLayout) -> None:
    root, environ = layout.root, layout.environ()
    # A server removes the temporary tables of all other servers in its folder when it starts.
    temporary = root / "mysql-tmp"
    temporary.mkdir()
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={root}/mysql", f"--user={layout.user}"]
    made = subprocess.run(
        [*install, "--auth-root-authentication-method=socket", "--skip-test-db"],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise DaemonError(f"mariadb-install-db failed: {made.stderr[-500:]}")
    start(
        "mariadbd",
        "--no-defaults",
        f"--datadir={root}/mysql",
        f"--tmpdir={temporary}",
        f"--socket={layout.mysql_socket}",
        f"--pid-file={root}/mysql.pid",
        f"--user={layout.user}",
        "--skip-networking",
        "--innodb-buffer-pool-size=32M",
        root=root,
        environ={},
    )
    client = ["mariadb", "--no-defaults", f"--socket={layout.mysql_socket}", "-e"]
    wait_until(lambda: succeeds([*client, "select 1"], {}), "mariadbd", layout.log_dir / "mariadbd.out")
    if not succeeds([*client, "create database slurm_acct_db"], {}):
        raise DaemonError("could not create the accounting database")
    start("slurmdbd", "-D", root=root, environ=environ)
    ask = ["sacctmgr", "--immediate", "--noheader", "list", "cluster"]
    wait_until(lambda: succeeds(ask, environ), "slurmdbd", layout.log_dir / "slurmdbd.log")
    for entity in ("cluster devcluster", "account lab", f"user {layout.user} account=lab"):
        if not succeeds(["sacctmgr", "--immediate", "add", *entity.split()], environ):
            raise DaemonError(f"sacctmgr could not add {entity}")


def _start_slurm(layout: ClusterLayout) -> None:
    environ = layout.environ()
    start("slurmctld", "-D", "-i", root=layout.root, environ=environ)
    for node in layout.node_names:
        start("slurmd", "-D", "-N", node, root=layout.root, environ=environ)
    ready = ["sinfo", "--noheader", "--states=idle", "--Node", "--format=%N", "--partition=batch"]

    def all_idle() -> bool:
        done = subprocess.run(
            ready, env={**os.environ, **environ}, capture_output=True, text=True, check=False
        )
        return len(done.stdout.split()) == layout.nodes

    wait_until(all_idle, "Slurm", layout.log_dir / "slurmctld.log")


def _free_ports(count: int) -> tuple[int, ...]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(probe.getsockname()[1] for probe in probes)
