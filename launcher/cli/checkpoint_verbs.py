"""The verbs about checkpoints: look, export, rehearse. Imports wait until a verb needs them."""

import argparse

from launcher.cli.output import make_console, print_json


def checkpoints(options: argparse.Namespace) -> int:
    """A run's checkpoints: step, size, ranks, age, and whether each can be used."""
    from launcher.cli.show_checks import show_checkpoints
    from launcher.records.runs import find_run
    from train.checkpoint.manifest import verify
    from train.checkpoint.store import CheckpointStore

    verdicts = CheckpointStore(find_run(options.run).checkpoints).verdicts()
    if options.verify:
        verdicts = [verify(verdict) for verdict in verdicts]
    if options.json:
        print_json(
            [
                {
                    "dir": str(verdict.path),
                    "usable": verdict.usable,
                    "verified": options.verify,
                    "problem": verdict.problem,
                    "bytes": verdict.manifest.nbytes if verdict.manifest else None,
                    "manifest": verdict.manifest.model_dump(exclude={"files"}) if verdict.manifest else None,
                }
                for verdict in verdicts
            ]
        )
    else:
        show_checkpoints(make_console(), verdicts, verified=options.verify)
    return 0 if all(verdict.usable for verdict in verdicts) else 2


def export(options: argparse.Namespace) -> int:
    """Write the model of a checkpoint (default: the newest) as a transformers directory."""
    import os
    import subprocess
    import sys

    from launcher.errors import refuse
    from launcher.records.runs import ensure_ours, find_run
    from train.checkpoint.store import CheckpointStore

    run = find_run(options.run)
    ensure_ours(run)
    usable = [verdict.manifest for verdict in CheckpointStore(run.checkpoints).verdicts() if verdict.usable]
    steps = [manifest.step for manifest in usable if manifest]
    if not steps or (options.step is not None and options.step not in steps):
        listed = ", ".join(map(str, steps)) or "none"
        message = (
            "there is no checkpoint" if options.step is None else f"there is no checkpoint {options.step}"
        )
        raise refuse("export.step", "--step", message, f"usable: {listed}")
    step = steps[0] if options.step is None else options.step
    out = (options.out or run.root / f"export-step_{step}").resolve()
    if out.exists() or not out.parent.is_dir():
        raise refuse("export.out", "--out", f"{out} exists, or its folder does not", "name a new folder")
    environ = {**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-P", "-m", "train.export", str(run.root), str(step), str(out)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise refuse("export.failed", "RUN", done.stderr.strip()[-1000:], "shardline checkpoints --verify")
    if options.json:
        print_json({"run": run.root.name, "step": step, "dir": str(out)})
    else:
        make_console().print(f"step {step} is in {out}", soft_wrap=True, highlight=False)
    return 0


def rehearse(options: argparse.Namespace) -> int:
    """Train your config for some steps, unbroken and broken, and compare: before a week-long job."""
    from launcher.cli.show_checks import show_drill
    from launcher.compose.run import compose_run
    from launcher.lifecycle.rehearse import rehearse as drill

    console = make_console()

    def report_progress(line: str) -> None:
        if not options.json:
            console.print(line, style="dim", markup=False, highlight=False)

    composed = compose_run(options.overrides, options.conf)
    items = drill(
        composed, steps=options.steps, within_min=options.within_min, report_progress=report_progress
    )
    if options.json:
        print_json(items)
    else:
        show_drill(console, items)
    return 0 if all(item.equal for item in items) else 4
