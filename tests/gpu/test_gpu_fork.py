"""Ranks on a GPU are forked from a process that has imported everything and has not touched the driver."""

import json
import os
import subprocess
import sys
from pathlib import Path

from launcher.compose.run import compose_run
from launcher.lifecycle.submit import create_run
from launcher.planning.preflight import examine
from train.node.forkserver import ONE_THREAD
from train.rundir import RunDir

PROBE = """
import ctypes, json, os, sys
from pathlib import Path

class Watch:
    # Asked for each module before it is imported: notes those that come just before the second thread.

    recent, found = [], None

    def find_spec(self, name, path=None, target=None):
        if self.found is None and len(os.listdir("/proc/self/task")) > 1:
            self.found = self.recent[-20:]
        self.recent.append(name)

watch = Watch()
sys.meta_path.insert(0, watch)
from train.worker import preload
preload(sys.argv[1])
import torch
facts = {
    "threads": [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()],
    "imported_before": watch.found,
    "cuda": torch.cuda.is_initialized(),
    # Of the driver itself, which knows nothing of torch: 3 is CUDA_ERROR_NOT_INITIALIZED.
    "driver": ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(ctypes.c_void_p())),
}
pid = os.fork()
if pid == 0:
    product = torch.ones(512, 512, device="cuda") @ torch.ones(512, 512, device="cuda")
    os._exit(0 if product.sum().item() == 512**3 else 1)
facts["rank"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps(facts))
"""


def test_a_forked_rank_computes_on_the_gpu(runs: Path) -> None:
    composed = compose_run(["experiment=smoke", "hardware.device=cuda", "hardware.gpus_per_node=1"])
    plan, problems = examine(composed)
    assert plan, problems
    run = RunDir(runs / plan.run)
    create_run(run, composed, plan)
    environ = {**os.environ, **ONE_THREAD, "OMP_NUM_THREADS": "2", "DS_ACCELERATOR": "cuda"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(run.root)], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert len(facts["threads"]) == 1, facts
    assert (facts["cuda"], facts["driver"], facts["rank"]) == (False, 3, 0), facts
