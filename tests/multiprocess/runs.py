"""Real runs for tests: started by the command, watched through the run directory."""

import contextlib
import io
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from launcher.status.runs import RunStatus, read_status
from tests.commands import run_command
from tests.conftest import conversation
from train.metrics import latest_by_step, read_metrics, read_trace
from train.rundir import RunDir, read_lines

_PATIENCE_S = 300
LOOK_EVERY_S = 0.1
"""Looking at a run reads its files or asks Slurm, which takes CPU time from its ranks."""


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return run_command(*arguments, environ={**os.environ, **environ})


@contextlib.contextmanager
def kept_umask() -> Iterator[None]:
    """What is written in this process stays as open as before: the command makes its own more private."""
    before = os.umask(0o077)
    os.umask(before)
    try:
        yield
    finally:
        os.umask(before)


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in this process, for verbs that look at a run: it saves a start of Python."""
    from launcher.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    code: str | int | None = 0
    with kept_umask(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
    return subprocess.CompletedProcess(arguments, int(code or 0), out.getvalue(), err.getvalue())


@dataclass(eq=False)
class Run:
    """A run that a test started."""

    dir: RunDir

    @property
    def status(self) -> RunStatus:
        return read_status(self.dir)

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(read_lines(self.dir.events))

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.dir.result.read_text())

    def kinds(self) -> list[str]:
        return [row["event"] for row in self.events]

    def trace(self) -> list[tuple[int, list[int]]]:
        """(step, sample ids), each step once."""
        return [(row.step, list(row.sample_ids)) for row in latest_by_step(read_trace(self.dir))]

    def curve(self) -> list[tuple[int, float, float | None]]:
        """(step, learning rate, loss), each step once."""
        return [(row.step, row.lr, row.loss) for row in latest_by_step(read_metrics(self.dir))]

    def losses(self) -> list[float]:
        return [math.nan if loss is None else loss for _, _, loss in self.curve()]

    def ranks(self) -> list[psutil.Process]:
        """The live rank processes of this run."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = [word for word in process.info["cmdline"] or [] if word]
            if words[3:5] == ["train.worker", str(self.dir.root)]:
                found.append((int(words[5]), process))
        return [process for _, process in sorted(found, key=lambda entry: entry[0])]

    def agent(self) -> psutil.Process:
        """The node agent: the task that Submitit's controller started."""
        jobs = [row for row in read_lines(self.dir.jobs) if "job_id" in row]
        [agent] = psutil.Process(int(jobs[-1]["job_id"])).children()
        return agent

    def wait_for_step(self, step: int) -> None:
        """Return as soon as a step was logged."""
        self._wait(lambda: self.status.step >= step, f"step {step}")

    def wait_for(self, *states: str, within_s: float = _PATIENCE_S) -> RunStatus:
        """Return when the run reaches one of these states."""
        self._wait(lambda: self.status.state in states, " or ".join(states), within_s)
        return self.status

    def _wait(self, condition: Any, what: str, within_s: float = _PATIENCE_S) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline or self.status.state == "FAILED":
                raise AssertionError(f"waited for {what}; {self.status}\n{self.logs()[-3000:]}")
            time.sleep(LOOK_EVERY_S)

    def stop(self, number: signal.Signals = signal.SIGUSR2, rank: int = 0) -> RunStatus:
        """Signal one rank and wait until all have stopped."""
        self.ranks()[rank].send_signal(number)
        return self.wait_for("PREEMPTED")

    def resume(self) -> "Run":
        """Go on and wait for the end."""
        done = command("resume", str(self.dir.root), "--follow", "--json")
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()[-3000:]
        return self

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted(self.dir.logs.glob("attempt_*/*.log")))


ROWS = 44
"""Eight rows a step: an epoch ends every five and a half steps."""


def traced_settings(folder: Path, steps: int) -> tuple[str, ...]:
    """Training whose every step can be compared: fp32, dropout on, many short epochs, everything traced."""
    path = folder / "rows.jsonl"
    rows = [
        conversation(f"question {n} {'why ' * (n % 7)}", f"answer {n} {'so ' * (n % 11)}")
        for n in range(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (
        "experiment=smoke",
        f"data.train={path}",
        "data.validation=null",
        "data.test=null",
        "eval.base=false",
        "train.precision=fp32",
        "model.dropout=0.1",
        f"train.max_steps={steps}",
        "train.trace=true",
        "optim.warmup_steps=30",
    )


def start(*overrides: str, **environ: str) -> Run:
    """Submit and return at once."""
    done = command("submit", *overrides, "--json", **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(RunDir(Path(json.loads(done.stdout)["dir"])))


def finish(*overrides: str, **environ: str) -> Run:
    """Submit and wait for a good end."""
    done = command("submit", *overrides, "--follow", "--json", **environ)
    assert done.stdout, done.stderr
    run = Run(RunDir(Path(json.loads(done.stdout)["dir"])))
    assert done.returncode == 0, done.stderr + run.logs()[-3000:]
    return run


def go_on(run: Run, *changes: str, until: int | None) -> None:
    """Resume with these changes; to the end, or stopped after so many steps."""
    done = command("resume", str(run.dir.root), *changes)
    assert done.returncode == 0, done.stdout + done.stderr
    if until is None:
        run.wait_for("COMPLETED")
    else:
        run.wait_for_step(until)
        run.stop()
