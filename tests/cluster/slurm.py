"""Runs on the test cluster: submitted by the command, disturbed through Slurm's own commands."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from launcher.status.runs import RunStatus
from tests.multiprocess.runs import LOOK_EVERY_S, Run, command, traced_settings
from train.rundir import RunDir

STEPS = 120
PATIENCE_S = 400


def settings_for(folder: Path) -> tuple[str, ...]:
    """Two CPU ranks on one node; slow enough for a scheduler to come in between."""
    cluster = ("slurm=devcluster", "hardware.device=cpu", "hardware.gpus_per_node=2")
    return (
        *traced_settings(folder, STEPS),
        *cluster,
        "train.micro_batch_size=1",
        "checkpoint.every_steps=10",
    )


def slurm(*words: str) -> str:
    """One of Slurm's own commands; its output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


@dataclass(eq=False)
class ClusterRun(Run):
    """A run that Slurm started. All nodes are this machine, so its processes can be found."""

    @property
    def job_id(self) -> str:
        assert self.status.job_id
        return self.status.job_id

    def agents(self) -> list[psutil.Process]:
        """The tasks that srun started, by node."""
        found = [
            process
            for process in psutil.process_iter(["cmdline"])
            if "slurm.executor" in (process.info["cmdline"] or [])
            and str(self.dir.root) in " ".join(process.info["cmdline"])
            and "srun" not in process.info["cmdline"][0]
        ]
        return sorted(found, key=lambda process: process.environ()["SLURMD_NODENAME"])

    def srun(self) -> psutil.Process:
        """The srun that started them; the older of its two processes."""
        found = [
            process
            for process in psutil.process_iter(["cmdline", "create_time"])
            if (process.info["cmdline"] or [""])[0] == "srun"
            and str(self.dir.root) in process.info["cmdline"][-1]
        ]
        return min(found, key=lambda process: process.info["create_time"])

    def wait_for_task(self) -> None:
        """Return when a task of it runs."""
        self.wait(lambda: bool(self.agents()), "its task")

    def wait_for(self, *states: str, within_s: float = PATIENCE_S) -> RunStatus:
        self.wait(lambda: self.status.state in states, " or ".join(states))
        return self.status

    def wait_for_step(self, step: int) -> None:
        self.wait(lambda: self.last_step() >= step, f"step {step}")

    def wait_for_attempt(self, attempt: int, step: int) -> None:
        """Return when this attempt has trained this step."""
        self.wait(
            lambda: self.last_attempt() == attempt and self.last_step() >= step,
            f"step {step} of attempt {attempt}",
        )

    def last_step(self) -> int:
        return self._last_line()["step"]

    def last_attempt(self) -> int:
        """Of those that trained."""
        return self._last_line()["attempt"]

    def _last_line(self) -> dict[str, int]:
        """From the file alone: asking Slurm each time would be slow."""
        lines = self.dir.metrics.read_bytes().splitlines() if self.dir.metrics.exists() else []
        return json.loads(lines[-1]) if lines and lines[-1].endswith(b"}") else {"step": 0, "attempt": 0}

    def wait(self, condition: Callable[[], bool], what: str, *, after_the_end: bool = False) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline or (self.dir.result.exists() and not after_the_end):
                if condition():
                    return
                raise AssertionError(f"waited for {what}; {self.status}\n{self.everything()}")
            time.sleep(LOOK_EVERY_S)

    def completed(self) -> "ClusterRun":
        self.wait(self.dir.result.exists, "the end")
        assert self.status.state == "COMPLETED", f"{self.status}\n{self.everything()}"
        return self

    def everything(self) -> str:
        """All that a person would want to read after a failure."""
        outs = "".join(
            path.read_text(errors="replace") for path in sorted(self.dir.root.glob("submitit/*.out"))
        )
        events = "\n".join(json.dumps(row) for row in self.events)
        return f"{events}\n{outs[-3000:]}\n{self.logs()[-3000:]}"


def submit(*overrides: str, **environ: str) -> ClusterRun:
    """Submit and return at once."""
    done = command("submit", *overrides, "--json", **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return ClusterRun(RunDir(Path(json.loads(done.stdout)["dir"])))


def finish(*overrides: str) -> ClusterRun:
    """Submit and wait for a good end."""
    return submit(*overrides).completed()


def assert_equal_runs(run: Run, unbroken: Run) -> None:
    """Sample ids, learning rates and fp32 losses of every step."""
    assert run.trace() == unbroken.trace()
    assert run.curve() == unbroken.curve()


def nothing_left(run: ClusterRun) -> list[str]:
    """Processes that still belong to a run."""
    mark = str(run.dir.root)
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if mark in " ".join(process.info["cmdline"] or []) and process.pid != os.getpid()
    ]


def occupy(nodes: str, partition: str = "high", seconds: int = 3) -> str:
    """A job that wants whole nodes; its id."""
    return slurm(
        "sbatch",
        "--parsable",
        "--exclusive",
        f"--partition={partition}",
        f"--nodelist={nodes}",
        f"--wrap=sleep {seconds}",
        "--output=/dev/null",
    ).strip()


def bring_back(node: str) -> None:
    """Make a node usable again, if it has not come back by itself."""
    if "down" in slurm("sinfo", "--noheader", f"--nodes={node}", "--format=%t"):
        slurm("scontrol", "update", f"nodename={node}", "state=resume")
