"""Building DeepSpeed's C++ kernels, once per kind of machine, and loading what was built.

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
    """Build what is named; a failure ends with 2 and what the compiler said."""
    for op in sys.argv[1:]:
        try:
            build(op)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to who asked
            sys.stderr.write(str(error))
            sys.exit(2)


def build(op: str) -> None:
    """Compile an op into the place that `ops.op_folder` names, unless it is there.

    Raises:
        RuntimeError: it cannot be compiled; the message holds the compiler's.
    """

    def write(folder: Path) -> None:
        folder.mkdir()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            os.environ["TORCH_EXTENSIONS_DIR"] = scratch
            shutil.copy(_builder(op)().load().__file__, folder)

    made_once(op_folder(op), write)


def load(op: str) -> None:
    """Make DeepSpeed use what was built, in place of asking a compiler.

    Raises:
        UserError: it was not built on this kind of machine.
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
