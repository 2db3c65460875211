"""The programs that a development cluster needs, and installing them where that is allowed."""

import os
import shutil
import subprocess

SLURM_PROGRAMS = {"munged": "munge", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm"}
ACCOUNTING_PROGRAMS = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
"""Program to Debian package."""
_SBIN = "/usr/sbin:/sbin"


class MissingProgramsError(Exception):
    """Programs are not there and may not be installed; the message says which, and how to get them."""


def ensure_programs(*, accounting: bool) -> None:
    """Install Debian's packages for what is missing, as root and with apt-get; else say what to install.

    Raises:
        MissingProgramsError: something is missing and could not be installed.
    """
    missing = missing_packages(accounting=accounting)
    if not missing:
        return
    wish = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingProgramsError(f"the programs of {', '.join(missing)} are missing; as root: {wish}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update"], [*wish.split(), "--yes"]):
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingProgramsError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")


def missing_packages(*, accounting: bool) -> list[str]:
    """Debian packages whose programs are not on this machine."""
    needed = SLURM_PROGRAMS | (ACCOUNTING_PROGRAMS if accounting else {})
    return sorted({package for program, package in needed.items() if find(program) is None})


def find(program: str) -> str | None:
    """Path of a program; Debian keeps daemons where a user's PATH does not look."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SBIN}")
