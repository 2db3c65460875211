"""What ranks are forked from: all that they need is imported, and nothing that does not survive a fork."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.compose.run import compose_run
from launcher.lifecycle.submit import create_run
from launcher.planning.preflight import examine
from train.cache import cache_dir
from train.node.forkserver import ONE_THREAD
from train.rundir import RunDir

PROBE = """
import json, os, sys
from pathlib import Path
from train.worker import preload
preload(sys.argv[1])
import torch
facts = {
    "threads": [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()],
    "cuda": torch.cuda.is_initialized(),
    "imported": sorted(sys.modules),
    "compiled code": os.environ["TORCHINDUCTOR_CACHE_DIR"],
}
pid = os.fork()
if pid == 0:
    # More threads than cores, so that the pool is made here and now.
    torch.set_num_threads(2)
    product = torch.ones(512, 512) @ torch.ones(512, 512)
    os._exit(0 if product.sum().item() == 512**3 else 1)
facts["rank"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps(facts))
"""


@pytest.fixture
def planned(runs: Path) -> Callable[..., RunDir]:
    """A run directory as `submit` leaves it."""

    def plan(*overrides: str) -> RunDir:
        composed = compose_run(["experiment=smoke", "hardware.device=cpu", *overrides])
        made, problems = examine(composed)
        assert made, problems
        run = RunDir(runs / made.run)
        create_run(run, composed, made)
        return run

    return plan


def test_imports_start_no_thread_and_no_cuda(planned: Callable[..., RunDir]) -> None:
    """With two threads for each rank, and with W&B; what is forked then has threads of its own."""
    run = planned("tracking=offline")
    environ = {**os.environ, **ONE_THREAD, "OMP_NUM_THREADS": "2", "DS_ACCELERATOR": "cpu"}
    # Torch sets it in a process that has built a model.
    environ.pop("TORCHINDUCTOR_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(run.root)], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert len(facts["threads"]) == 1, facts["threads"]
    assert not facts["cuda"]
    assert facts["rank"] == 0
    wanted = {
        "deepspeed",
        "train.rank.setup",
        "transformers.modeling_utils",
        "transformers.models.llama.modeling_llama",
        "wandb",
    }
    assert wanted <= set(facts["imported"])
    assert facts["compiled code"] == str(cache_dir() / "compiled")
    assert "torch._inductor.compile_fx" not in facts["imported"], "nothing is compiled in this run"


def test_the_start_method_is_no_part_of_what_is_trained() -> None:
    forked, spawned = (
        compose_run(["experiment=smoke", f"train.start_method={method}"]).config
        for method in ("fork", "spawn")
    )
    assert forked.identity == spawned.identity
