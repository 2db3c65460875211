"""A storm: one run, killed again and again at random moments, then compared with an unbroken one.

python -m tests.multiprocess.storm --kills 30 --seed 1 --ranks 2
"""

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import psutil

from tests.multiprocess.runs import Run, command, finish, start, traced_settings
from train.rundir import read_lines

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)
LONGEST_CALM_S = 11.0
"""A start takes about eight seconds: kills fall into starts, steps and saves."""


def storm(settings: tuple[str, ...], *, kills: int, seed: int) -> tuple[Run, list[str]]:
    """Start a run and disturb it until it has had so many kills, or is finished; it always ends COMPLETED."""
    chance = random.Random(seed)
    run = start(*settings)
    done: list[str] = []
    while len(done) < kills and run.status.state != "COMPLETED":
        if _revived(run) and _calm(run, chance.uniform(0.0, LONGEST_CALM_S)):
            done.append(_strike(run, chance))
    while run.status.state != "COMPLETED":
        _revived(run)
        run.wait_for("COMPLETED", "PREEMPTED", "FAILED", "CANCELLED", within_s=900)
    return run, done


def _revived(run: Run) -> bool:
    """Go on with a run that has stopped."""
    if run.status.state in ("PREEMPTED", "FAILED", "CANCELLED"):
        again = command("resume", str(run.dir.root))
        assert again.returncode == 0, again.stderr
    return run.status.state in ("RUNNING", "PENDING")


def _calm(run: Run, seconds: float) -> bool:
    """Leave the run alone for a while; whether it still runs."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and run.status.state in ("RUNNING", "PENDING"):
        time.sleep(0.05)
    return run.status.state in ("RUNNING", "PENDING")


def _strike(run: Run, chance: random.Random) -> str:
    """One signal to one rank, to the agent, or to everything at once."""
    number, target = chance.choice(SIGNALS), chance.choice(("rank", "agent", "all"))
    victims = run.ranks()
    if target == "rank":
        victims = [chance.choice(victims)] if victims else []
    else:
        jobs = [row for row in read_lines(run.dir.jobs) if "job_id" in row]
        family = _children(int(jobs[-1]["job_id"]))
        victims = family[:1] if target == "agent" else family
    for victim in victims:
        try:
            os.kill(victim.pid, number)
        except ProcessLookupError:
            continue
    return f"{number.name} to {target} at step {run.status.step}"


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def storm_settings(folder: Path, steps: int, ranks: int) -> tuple[str, ...]:
    """Long enough to be struck often, with a checkpoint every few steps."""
    return (
        *traced_settings(folder, steps),
        "train.micro_batch_size=1",
        f"hardware.gpus_per_node={ranks}",
        "checkpoint.every_steps=5",
    )


def compare(run: Run, unbroken: Run) -> None:
    """Sample ids, learning rates and fp32 losses of every step."""
    assert run.trace() == unbroken.trace(), "the samples differ"
    assert run.curve() == unbroken.curve(), "the losses or the rates differ"


def main() -> None:
    """Run a storm from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SHARDLINE_RUNS"] = str(folder / "runs")
        settings = storm_settings(folder, options.steps, options.ranks)
        began = time.monotonic()
        unbroken = finish(*settings, "name=unbroken")
        calm_s = time.monotonic() - began
        run, done = storm((*settings, "name=storm"), kills=options.kills, seed=options.seed)
        for line in done:
            print(line)
        compare(run, unbroken)
        status = run.status
        print(
            f"{len(done)} kills, {status.attempt} attempts, {status.restarts} restarts in place;"
            f" {time.monotonic() - began - calm_s:.0f} s instead of {calm_s:.0f} s; every step is equal"
        )


if __name__ == "__main__":
    main()
