"""The directory of checkpoints: commit, find, keep, drop. Torch-free.

A checkpoint is staged under a hidden name, gets its manifest, and is renamed: from then on it exists.
"""

import shutil
from pathlib import Path

from train.checkpoint.manifest import MANIFEST, Manifest, Verdict, inspect
from train.rundir import sync_directory, write_atomic, write_json

_PREFIX = "step_"
_STAGING = ".staging_"
LATEST, BEST = "latest", "best"


class CheckpointStore:
    """`step_N` directories under one root, and the pointers `latest` and `best`."""

    def __init__(self, root: Path) -> None:
        """Take a root that need not exist yet."""
        self.root = root

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lives once committed."""
        return self.root / f"{_PREFIX}{step}"

    def stage(self, step: int) -> Path:
        """A new, empty directory to write a checkpoint into."""
        staging = self.root / f"{_STAGING}{step}"
        self.discard_staging()
        staging.mkdir(parents=True)
        return staging

    def commit(self, staging: Path, manifest: Manifest) -> Path:
        """Publish a staged checkpoint: manifest, rename, pointer, each durable before the next."""
        write_json(staging / MANIFEST, manifest)
        target = self.path(manifest.step)
        if target.exists():
            # Only an unusable one can stand here: resuming would have started from it otherwise.
            shutil.rmtree(target)
        staging.rename(target)
        sync_directory(self.root)
        write_atomic(self.root / LATEST, f"{target.name}\n")
        return target

    def mark_best(self, step: int) -> None:
        """Point `best` at a committed step, for people; what decides is the progress in the checkpoints."""
        write_atomic(self.root / BEST, f"{self.path(step).name}\n")

    def steps(self) -> list[int]:
        """Committed or broken, newest first."""
        if not self.root.is_dir():
            return []
        numbers = [
            int(path.name.removeprefix(_PREFIX))
            for path in self.root.iterdir()
            if path.name.startswith(_PREFIX)
            and path.name.removeprefix(_PREFIX).isdigit()
            and path.is_dir()
            and not path.is_symlink()
        ]
        return sorted(numbers, reverse=True)

    def verdicts(self) -> list[Verdict]:
        """All checkpoints, newest first, judged without reading their bytes."""
        return [inspect(self.path(step)) for step in self.steps()]

    def prune(self, keep_last: int, best_step: int | None) -> list[int]:
        """Drop usable checkpoints beyond the newest `keep_last`, never the best one.

        Returns:
            The steps that were dropped.
        """
        usable = [verdict.manifest.step for verdict in self.verdicts() if verdict.usable and verdict.manifest]
        keep = {*usable[:keep_last], best_step}
        dropped = [step for step in usable if step not in keep]
        for step in dropped:
            # Renamed first, so that a kill in the middle leaves nothing that looks like a checkpoint.
            doomed = self.root / f"{_STAGING}drop_{step}"
            self.path(step).rename(doomed)
            shutil.rmtree(doomed)
        return dropped

    def discard_staging(self) -> None:
        """Remove what an interrupted save or prune left."""
        if self.root.is_dir():
            for leftover in self.root.glob(f"{_STAGING}*"):
                shutil.rmtree(leftover)
