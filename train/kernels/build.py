"""Builds DeepSpeed's C++ kernels once per kind of machine and loads the builds.

python -m train.kernels.build cpu_adam
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from train.cache import made_once
from train.failures import UserError
from train.kernels.ops import OPS, built_file, op_folder


def main() -> None:
    """Build the ops on the command line; on failure, print the compiler's output and exit with 2."""
    for op in sys.argv[1:]:
        try:
            build(op)
        except Exception as error:  # noqa: BLE001 - every error is reported to the parent process
            sys.stderr.write(str(error))
            sys.exit(2)


def build(op: str) -> None:
    """Compile an op into the folder `ops.op_folder` unless it exists.

    Raises:
        RuntimeError: Compiling failed; the message has the compiler's output.
    """

    def write(folder: Path) -> None:
        folder.mkdir()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            os.environ["TORCH_EXTENSIONS_DIR"] = scratch
            shutil.copy(_builder(op)().load().__file__, folder)

    made_once(op_folder(op), write)


def load(op: str) -> None:
    """Make DeepSpeed use the build, so that it does not compile the op itself.

    Raises:
        UserError: The op has not been built for this kind of machine.
    """
    path = built_file(op)
    if path is None:
        raise UserError(f"{op} is not built in {op_folder(op)}; run: shardline doctor --build-ops")
    loaded: dict[str, Any] = _builder(op)._loaded_ops
    if op not in loaded:
        loaded[op] = _import(path)


def _builder(op: str) -> Any:
    from deepspeed.ops import op_builder

    return {"cpu_adam": op_builder.CPUAdamBuilder, "fused_adam": op_builder.FusedAdamBuilder}[op]


def _import(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    assert set(sys.argv[1:]) <= set(OPS)
    main()
