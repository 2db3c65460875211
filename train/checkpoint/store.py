"""The directory of checkpoints: commit, list and prune. Torch-free.

A checkpoint is staged under a hidden name, gets its manifest and is then published by a rename.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from train.checkpoint.manifest import MANIFEST, CheckpointVerdict, Manifest, SealedManifest, inspect
from train.faults import NO_FAULTS, Faults
from train.rundir import sync_directory, write_atomic, write_json

_PREFIX = "step_"
_STAGING = ".staging_"
_UNIVERSAL = "universal_"
LATEST, BEST = "latest", "best"


class CheckpointStore:
    """`step_N` directories under one root, and the pointers `latest` and `best`."""

    def __init__(self, root: Path, faults: Faults = NO_FAULTS) -> None:
        """Use `root`, which need not exist yet."""
        self.root = root
        self._faults = faults

    def path(self, step: int) -> Path:
        """Return the path of a step's checkpoint once it is committed."""
        return self.root / f"{_PREFIX}{step}"

    def universal_path(self, step: int) -> Path:
        """Return the path of the checkpoint converted to DeepSpeed's universal format."""
        return self.root / f".{_UNIVERSAL}{step}"

    def stage(self, step: int) -> Path:
        """Make an empty staging directory for a checkpoint; older staging directories are removed."""
        staging = self.root / f"{_STAGING}{step}"
        self.discard_staging()
        staging.mkdir(parents=True)
        return staging

    def commit(self, staging: Path, manifest: Manifest) -> Path:
        """Publish a staged checkpoint: manifest, rename, pointer, each durable before the next."""
        step = manifest.step
        self._faults.hit("save.manifest", step=step)
        write_json(staging / MANIFEST, SealedManifest.of(manifest))
        target = self.path(step)
        if target.exists():
            # An existing one is unusable: otherwise the resume would have started from it.
            shutil.rmtree(target)
        self._faults.hit("save.rename", step=step)
        staging.rename(target)
        sync_directory(self.root)
        self._faults.hit("save.latest", step=step)
        write_atomic(self.root / LATEST, f"{target.name}\n")
        return target

    def mark_best(self, step: int | None) -> None:
        """Point `best` at a committed step, for users; training reads the progress in checkpoints."""
        if step is None or not self.path(step).is_dir():
            return
        write_atomic(self.root / BEST, f"{self.path(step).name}\n")

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints, committed or broken, newest first."""
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

    def verdicts(self) -> list[CheckpointVerdict]:
        """Inspect all checkpoints, newest first, without reading their files."""
        return [inspect(self.path(step)) for step in self.steps()]

    def prune(self, keep_last: int, keep_every: int | None, best_step: int | None) -> list[int]:
        """Delete usable checkpoints that are not among the newest, not a multiple and not the best.

        Args:
            keep_last: Number of newest checkpoints to keep.
            keep_every: Keep checkpoints whose step is a multiple of this.
            best_step: Step of the best checkpoint, which is kept.

        Returns:
            The steps that were deleted.
        """
        usable = [verdict.manifest.step for verdict in self.verdicts() if verdict.usable and verdict.manifest]
        dropped = droppable(usable, keep_last, keep_every, best_step)
        for step in dropped:
            self._faults.hit("prune", step=usable[0])
            # Rename first, so that a kill during the deletion leaves nothing that looks like a checkpoint.
            doomed = self.root / f"{_STAGING}drop_{step}"
            self.path(step).rename(doomed)
            _remove(doomed)
        return dropped

    def discard_staging(self) -> None:
        """Remove leftovers of an interrupted save, prune or conversion."""
        if self.root.is_dir():
            for leftover in self.root.glob(f"{_STAGING}*"):
                _remove(leftover)

    def discard_universal(self, but_step: int | None = None) -> None:
        """Remove converted checkpoints, except the one of `but_step`."""
        for path in self.root.glob(f".{_UNIVERSAL}*"):
            if but_step is None or path != self.universal_path(but_step):
                _remove(path)


def droppable(
    usable: Sequence[int], keep_last: int, keep_every: int | None, best_step: int | None
) -> list[int]:
    """Return which of the `usable` steps (newest first) no rule keeps. The newest is always kept.

    Args:
        usable: Steps of the usable checkpoints, newest first.
        keep_last: Number of newest checkpoints to keep.
        keep_every: Keep steps that are a multiple of this.
        best_step: Step of the best checkpoint, which is kept.
    """
    keep = {*usable[: max(keep_last, 1)], best_step}
    return [step for step in usable if step not in keep and not (keep_every and step % keep_every == 0)]


def _remove(path: Path) -> None:
    """Remove a directory tree; a symbolic link is removed and not followed."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
