"""Requirements of compiling code on this machine. Torch-free."""

import os
import shutil
import sysconfig
from pathlib import Path


def compiler_obstacle() -> str | None:
    """Return why code for CPUs cannot be compiled on this machine, or None if it can.

    Looks for the requirements of torch's inductor: $CXX or g++, and Python's headers.
    """
    command = os.environ.get("CXX") or "g++"
    if shutil.which(command.split()[0]) is None:
        return f"the C++ compiler {command} is not in PATH"
    return None if has_headers() else "Python's headers are missing (Debian: apt-get install python3-dev)"


def has_headers() -> bool:
    """Return whether Python's headers are installed, which compiled extensions need."""
    return (Path(sysconfig.get_path("include")) / "Python.h").exists()
