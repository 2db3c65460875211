"""DeepSpeed's C++ kernels: location of the builds and requirements of building. Torch-free.

A build is specific to one kind of processor and one set of versions. `train/kernels/build.py` makes it once
and every rank loads it, so that no rank needs a compiler and no killed rank leaves a compiler's lock.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from train.cache import cache_dir
from train.machine.cpu_features import processor_facts
from train.machine.toolchain import has_headers

_INCLUDES, _ARCHITECTURES = "CPLUS_INCLUDE_PATH", "TORCH_CUDA_ARCH_LIST"
_CPU_FACTS = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "Features")
"""Entries of /proc/cpuinfo on x86 and ARM that determine the instructions of a build."""
_CUDA_HEADER = "cusparse.h"
"""A header that torch's headers include and that some installations of nvcc lack."""
_NOISE = ("-DTORCH_EXTENSION_NAME", "FAILED: ", "ninja: ")
"""Parts of lines that have the failed command and not the error."""
_ERROR_LINES, _ERROR_CHARACTERS = 12, 400
"""Number of lines shown of a failed build, and of characters per line."""


@dataclass(frozen=True, slots=True)
class Op:
    """A kernel that DeepSpeed ships as source."""

    device: Literal["cpu", "cuda"]
    tools: Sequence[str]
    """Programs that building needs."""


OPS = {
    "cpu_adam": Op("cpu", ("c++", "ninja")),
    "fused_adam": Op("cuda", ("c++", "ninja", "nvcc")),
}


def op_folder(op: str) -> Path:
    """Return the folder of this machine's build of an op, whether it exists or not."""
    processor = _cpu() if OPS[op].device == "cpu" else _gpu()
    return _versions_folder() / processor / op


def extensions_folder() -> Path:
    """Return the folder for other extensions that a rank compiles, specific to the processor like the ops."""
    return _versions_folder() / _cpu() / "other"


def built_file(op: str) -> Path | None:
    """Return the library of this machine's build, or None if it does not exist."""
    return next(op_folder(op).glob("*.so"), None)


def why_not_buildable(op: str) -> str | None:
    """Return why an op cannot be used, or None if it is built or can be built.

    A build for another processor counts as built, since a login node can differ from the compute nodes.
    """
    if any(_versions_folder().glob(f"*/{op}/*.so")):
        return None
    missing = [tool for tool in OPS[op].tools if not _has(tool)]
    if not has_headers():
        missing.append("Python.h (python3-dev)")
    if "nvcc" in OPS[op].tools and not _toolkit_has_headers() and not _packaged_headers():
        missing.append(f"{_CUDA_HEADER} (of the CUDA toolkit, or pip install nvidia-cusparse)")
    if not missing:
        return None
    names = " and ".join(missing) + (" are" if len(missing) > 1 else " is")
    return (
        f"has to be compiled, but {names} missing here; install what is missing, or compile on another"
        " machine: shardline doctor --build-ops"
    )


def build_in_child(op: str) -> str | None:
    """Build an op in a child process unless it is built; return the compiler's error, or None on success."""
    code = Path(__file__).resolve().parents[2]
    inherited = os.environ.get("PYTHONPATH")
    environ = {
        **os.environ,
        "PATH": _tool_path(),
        "PYTHONPATH": f"{code}{os.pathsep}{inherited}" if inherited else str(code),
    }
    if OPS[op].device == "cpu":
        environ["DS_ACCELERATOR"] = "cpu"
        return _run_build(op, environ)
    # DeepSpeed takes numbers only, and code for 9.0 runs where code for 9.0a does.
    if architectures := os.environ.get(_ARCHITECTURES):
        environ[_ARCHITECTURES] = re.sub(r"(\d+\.\d+)[a-z]", r"\1", architectures)
    if not _toolkit_has_headers():
        given = os.environ.get(_INCLUDES)
        environ[_INCLUDES] = os.pathsep.join([*([given] if given else []), *map(str, _packaged_headers())])
    return _run_build(op, environ)


def _run_build(op: str, environ: Mapping[str, str]) -> str | None:
    command = [sys.executable, "-P", "-m", "train.kernels.build", op]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, errors="replace", check=False)
    return _cause(done.stderr) or f"exit code {done.returncode}" if done.returncode else None


def _cause(stderr: str) -> str:
    """Return the first error and the last lines of a failed build's output, without command lines."""
    lines = [
        line.rstrip()[:_ERROR_CHARACTERS]
        for line in stderr.splitlines()
        if line.strip() and not any(noise in line for noise in _NOISE)
    ]
    last = lines[-_ERROR_LINES:]
    first_error = next((line for line in lines if "error:" in line), None)
    return "\n".join(last if first_error is None or first_error in last else [first_error, *last])


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
    """Return whether a program is found where torch looks for it."""
    if tool == "c++":
        tool = os.environ.get("CXX", tool)
    return shutil.which(tool, path=_tool_path()) is not None or (
        tool == "nvcc" and (_toolkit() / "bin" / tool).exists()
    )


def _toolkit() -> Path:
    """The CUDA toolkit that torch compiles with."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if named:
        return Path(named)
    nvcc = shutil.which("nvcc", path=_tool_path())
    return Path(nvcc).parent.parent if nvcc else Path("/usr/local/cuda")


def _toolkit_has_headers() -> bool:
    """Return whether nvcc finds the header in its toolkit or in the user's include paths."""
    paths = [os.environ.get(name, "").split(os.pathsep) for name in (_INCLUDES, "CPATH")]
    folders = [_toolkit() / "include", *_toolkit().glob("targets/*/include")]
    folders += [Path(folder) for part in paths for folder in part if folder]
    return any((folder / _CUDA_HEADER).exists() for folder in folders)


def _packaged_headers() -> list[Path]:
    """Include folders of pip's CUDA packages, where one of them holds the header."""
    spec = find_spec("nvidia")
    roots = spec.submodule_search_locations if spec else None
    folders = [folder for root in roots or () for folder in sorted(Path(root).glob("*/include"))]
    return folders if any((folder / _CUDA_HEADER).exists() for folder in folders) else []


def _tool_path() -> str:
    """Return PATH with Python's folder, where ninja is installed, in front."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
