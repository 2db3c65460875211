"""DeepSpeed's C++ kernels: where builds are kept, whether one is there, what building it takes. Torch-free.

A build serves one kind of processor and one set of versions. It is made once, by `train/kernels/build.py`,
and every rank loads it as it is: no rank needs a compiler, and none that is killed leaves a compiler's lock.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from train.cache import cache_dir
from train.machine.cpu_features import processor_facts
from train.machine.toolchain import has_headers

_CPU_FACTS = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
"""Lines of /proc/cpuinfo, on x86 and on ARM, that decide which instructions a build may use."""
_SAID_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Op:
    """A kernel that DeepSpeed brings as source."""

    device: Literal["cpu", "cuda"]
    tools: Sequence[str]
    """Programs that building takes."""


OPS = {
    "cpu_adam": Op("cpu", ("c++", "ninja")),
    "fused_adam": Op("cuda", ("c++", "ninja", "nvcc")),
}


def op_folder(op: str) -> Path:
    """Where this machine's build of an op is, or will be."""
    processor = _cpu() if OPS[op].device == "cpu" else _gpu()
    return _versions_folder() / processor / op


def extensions_folder() -> Path:
    """Where anything else that a rank may compile goes: by processor, as the ops themselves."""
    return _versions_folder() / _cpu() / "other"


def built_file(op: str) -> Path | None:
    """The library of this machine's build; None before it is made."""
    return next(op_folder(op).glob("*.so"), None)


def why_not_buildable(op: str) -> str | None:
    """What is in the way of having an op; None where it is built already or can be.

    A build for another processor counts: a login node may well have another one than the nodes.
    """
    if any(_versions_folder().glob(f"*/{op}/*.so")):
        return None
    missing = [tool for tool in OPS[op].tools if not _has(tool)]
    if not has_headers():
        missing.append("Python.h (python3-dev)")
    if not missing:
        return None
    names = " and ".join(missing)
    return (
        f"has to be compiled, and there is no {names} here; install what is missing, or compile it where that"
        " is (shardline doctor --build-ops)"
    )


def build_in_child(op: str) -> str | None:
    """Build an op unless it is built; what the compiler said when it failed, else None."""
    code = Path(__file__).resolve().parents[2]
    inherited = os.environ.get("PYTHONPATH")
    environ = {
        **os.environ,
        "PATH": _tool_path(),
        "PYTHONPATH": f"{code}{os.pathsep}{inherited}" if inherited else str(code),
    }
    if OPS[op].device == "cpu":
        environ["DS_ACCELERATOR"] = "cpu"
    command = [sys.executable, "-P", "-m", "train.kernels.build", op]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    return done.stderr.strip()[-_SAID_CHARACTERS:] or "no word" if done.returncode else None


def _versions_folder() -> Path:
    packages = "_".join(f"{name}-{version(name)}" for name in ("torch", "deepspeed"))
    return cache_dir() / "extensions" / f"{packages}_{sys.implementation.cache_tag}"


def _cpu() -> str:
    facts = processor_facts()
    known = [f"{name}: {facts[name]}" for name in _CPU_FACTS if name in facts]
    return f"cpu-{hashlib.sha256(chr(10).join(known).encode()).hexdigest()[:12]}"


def _gpu() -> str:
    if shutil.which("nvidia-smi") is None:
        return "cuda-none"
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return f"cuda-{'-'.join(sorted(set(done.stdout.split()))) or 'none'}"


def _has(tool: str) -> bool:
    """As torch looks for it."""
    if tool == "c++":
        tool = os.environ.get("CXX", tool)
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    return shutil.which(tool, path=_tool_path()) is not None or (
        tool == "nvcc" and (home / "bin" / tool).exists()
    )


def _tool_path() -> str:
    """Ninja lies beside Python, which need not be on the path of whoever started it."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
