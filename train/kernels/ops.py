"""DeepSpeed's C++ kernels: where builds are kept, whether one is there, what building it takes. Torch-free.

A build serves one kind of processor and one set of versions. It is made once, by `train/kernels/build.py`,
and every rank loads it as it is: no rank needs a compiler, and none that is killed leaves a compiler's lock.
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
"""Lines of /proc/cpuinfo, on x86 and on ARM, that decide which instructions a build may use."""
_CUDA_HEADER = "cusparse.h"
"""Torch's headers include it, and an installation of nvcc need not hold it."""
_NOISE = ("-DTORCH_EXTENSION_NAME", "FAILED: ", "ninja: ")
"""In lines that say which command failed, not why."""
_SAID_LINES, _SAID_CHARACTERS = 12, 400
"""Of a failed build that are shown, and of each line."""


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
    if "nvcc" in OPS[op].tools and not _toolkit_has_headers() and not _packaged_headers():
        missing.append(f"{_CUDA_HEADER} (of the CUDA toolkit, or pip install nvidia-cusparse)")
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


def _cause(said: str) -> str:
    """The end of what a failed build wrote, and before it the first error, without command lines."""
    lines = [
        line.rstrip()[:_SAID_CHARACTERS]
        for line in said.splitlines()
        if line.strip() and not any(noise in line for noise in _NOISE)
    ]
    last = lines[-_SAID_LINES:]
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
    """As torch looks for it."""
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
    """Whether nvcc finds the header by itself, or where the user has told the compiler to look."""
    told = [os.environ.get(name, "").split(os.pathsep) for name in (_INCLUDES, "CPATH")]
    folders = [_toolkit() / "include", *_toolkit().glob("targets/*/include")]
    folders += [Path(folder) for part in told for folder in part if folder]
    return any((folder / _CUDA_HEADER).exists() for folder in folders)


def _packaged_headers() -> list[Path]:
    """Include folders of pip's CUDA packages, where one of them holds the header."""
    spec = find_spec("nvidia")
    roots = spec.submodule_search_locations if spec else None
    folders = [folder for root in roots or () for folder in sorted(Path(root).glob("*/include"))]
    return folders if any((folder / _CUDA_HEADER).exists() for folder in folders) else []


def _tool_path() -> str:
    """Ninja lies beside Python, which need not be on the path of whoever started it."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
