"""`shardline export`."""

import argparse
from pathlib import Path

from launcher.cli.completers import complete_single_runs
from launcher.cli.verb import Verb, add_run


def export(options: argparse.Namespace) -> int:
    """Convert the checkpoint in a process of its own, on the CPU, and print the folder."""
    import os
    import subprocess
    import sys

    from launcher.cli.output import make_console, print_json
    from launcher.errors import refuse
    from launcher.records.runs import ensure_ours, find_run
    from train.checkpoint.store import CheckpointStore

    run = find_run(options.run)
    ensure_ours(run)
    usable = [verdict.manifest for verdict in CheckpointStore(run.checkpoints).verdicts() if verdict.usable]
    steps = [manifest.step for manifest in usable if manifest]
    if not steps or (options.step is not None and options.step not in steps):
        listed = ", ".join(map(str, steps)) or "none"
        message = "no usable checkpoint" if options.step is None else f"no checkpoint of step {options.step}"
        raise refuse("export.step", "--step", message, f"usable steps: {listed}")
    step = steps[0] if options.step is None else options.step
    out = (options.out or run.root / f"export-step_{step}").resolve()
    if out.exists() or not out.parent.is_dir():
        message = f"{out} already exists" if out.exists() else f"no such folder: {out.parent}"
        raise refuse("export.out", "--out", message, "give a new folder inside an existing one")
    environ = {**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-P", "-m", "train.export", str(run.root), str(step), str(out)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise refuse(
            "export.failed",
            "RUN",
            done.stderr.strip()[-1000:],
            f"shardline checkpoints {options.run} --verify",
        )
    if options.json:
        print_json({"run": run.root.name, "step": step, "dir": str(out)})
    else:
        make_console().print(f"exported step {step} to {out}", soft_wrap=True, highlight=False)
    return 0


def _options(parser: argparse.ArgumentParser) -> None:
    add_run(parser, completer=complete_single_runs)
    parser.add_argument(
        "--step", type=int, metavar="N", help="which checkpoint (default: the newest usable one)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="new folder (default: export-step_N in the run directory)"
    )


VERB = Verb(
    name="export",
    help="Write the model of a checkpoint as a transformers directory",
    example="shardline export smoke --step 20 --out my-model",
    options=_options,
    run=export,
)
