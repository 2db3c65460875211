"""Ranks that are forked use the GPU, and the process that they are forked from does not."""

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
import json, os, sys
from pathlib import Path
from train.worker import preload
preload(sys.argv[1])
import torch
threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]

def rank():
    ones = torch.ones(512, 512, device="cuda")
    return 0 if (ones @ ones).sum().item() == 512**3 else 1

pids = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = rank()
        finally:
            os._exit(code)
    pids.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
print(json.dumps({"threads": threads, "cuda": torch.cuda.is_initialized(), "codes": codes}))
"""


def test_forked_processes_use_the_gpu_and_their_parent_does_not(runs: Path):
    composed = compose_run(["experiment=smoke", "hardware.device=cuda", "hardware.gpus_per_node=1"])
    plan, problems = examine(composed)
    assert plan, problems
    run = RunDir(runs / plan.run)
    create_run(run, composed, plan)
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(run.root)],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert len(facts["threads"]) == 1, facts["threads"]
    assert not facts["cuda"]
    assert facts["codes"] == [0, 0]
