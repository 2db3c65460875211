"""The programs of a development cluster and their installation."""

import os
import shutil
import subprocess

SLURM_PROGRAMS = {"munged": "munge", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm"}
ACCOUNTING_PROGRAMS = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
"""Debian package of each program."""
_SBIN = "/usr/sbin:/sbin"


class MissingProgramsError(Exception):
    """Programs are missing and cannot be installed; the message has the command that installs them."""


def ensure_programs(*, accounting: bool) -> None:
    """Install the Debian packages of missing programs, which needs root and apt-get.

    Raises:
        MissingProgramsError: Programs are missing and could not be installed.
    """
    missing = missing_packages(accounting=accounting)
    if not missing:
        return
    wish = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingProgramsError(f"missing programs of {', '.join(missing)}; run as root: {wish}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update"], [*wish.split(), "--yes"]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingProgramsError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")


def missing_packages(*, accounting: bool) -> list[str]:
    """Return the Debian packages whose programs are not on this machine."""
    needed = SLURM_PROGRAMS | (ACCOUNTING_PROGRAMS if accounting else {})
    return sorted({package for program, package in needed.items() if find(program) is None})


def find(program: str) -> str | None:
    """Return the path of a program or None; also looks in /usr/sbin, which is not in every user's PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
