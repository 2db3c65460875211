"""What compiling for this machine needs beside torch. Torch-free."""

import os
import shutil
import sysconfig
from pathlib import Path


def compiler_obstacle() -> str | None:
    """Why code for CPUs cannot be compiled on this machine; None where it can.

    Looks where torch's inductor does: $CXX, else g++, and Python's headers, against which it links.
    """
    command = os.environ.get("CXX") or "g++"
    if shutil.which(command.split()[0]) is None:
        return f"the C++ compiler {command} is not in PATH"
    return None if has_headers() else "Python's headers are not installed (Debian: python3-dev)"


def has_headers() -> bool:
    """Whether Python's own headers are here, which whatever is loaded into it is compiled with."""
    return (Path(sysconfig.get_path("include")) / "Python.h").exists()
