"""What torch's compiler needs beside torch. Torch-free."""

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
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return None if header.exists() else f"Python's headers are not installed: there is no {header}"
