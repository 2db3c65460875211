"""Finding and loading checkpoints on all ranks together; rank 0 decides which one."""

from collections.abc import Sequence
from pathlib import Path

from train.cache import made_once
from train.checkpoint.manifest import CheckpointVerdict, Manifest, inspect, verify
from train.checkpoint.progress import Progress, Resumed, Topology, read_progress, topology_of
from train.checkpoint.scope import CheckpointScope
from train.engine.engine import SHARDS, Engine
from train.engine.universal import to_universal
from train.failures import NoUsableCheckpointError
from train.journal.events import SkippedCheckpoints
from train.journal.reading import read_journal, step_saved


class Restorer:
    """Loads checkpoints. Every method is collective."""

    def __init__(self, scope: CheckpointScope) -> None:
        """Restore checkpoints of the run in `scope`."""
        self._scope = scope

    def resume(self, engine: Engine) -> Resumed:
        """Load the newest verified checkpoint, or start at step 0 if none was ever saved.

        Raises:
            NoUsableCheckpointError: A checkpoint was saved, but none can be used.
        """
        verdict = self._newest_verified()
        self._scope.faults.hit("load")
        if verdict is None or verdict.manifest is None:
            return Resumed(Progress())
        converted_from = self._load(engine, verdict.path, verdict.manifest)
        progress = read_progress(verdict.path)
        if self._scope.group.env.is_main:
            self._scope.store.mark_best(progress.best_step)
        return Resumed(progress, converted_from)

    def load_best(self, engine: Engine, progress: Progress) -> int:
        """Load the best checkpoint by validation, unless there is none or the engine already holds it.

        Join a running save first: it may be the one that writes the best checkpoint.

        Returns:
            The step that the engine now holds. A damaged best checkpoint is journaled and not loaded.
        """
        if progress.best_step is None or progress.best_step == progress.step:
            return progress.step
        verdict, problem = self._verify(progress.best_step)
        if problem or verdict.manifest is None:
            if self._scope.group.env.is_main:
                self._note_skipped([f"{verdict.path.name} (the best): {problem}"])
            return progress.step
        self._load(engine, verdict.path, verdict.manifest)
        return progress.best_step

    def _load(self, engine: Engine, path: Path, manifest: Manifest) -> Topology | None:
        """Load a checkpoint, converted if necessary; returns its topology if it was converted."""
        found, wanted = topology_of(manifest), self._scope.topology
        if found == wanted or (found.unsharded and wanted.unsharded):
            engine.load(path)
            return None
        self._load_universal(engine, path, manifest)
        return found

    def _load_universal(self, engine: Engine, path: Path, manifest: Manifest) -> None:
        """Convert a checkpoint once and load each rank's part of it."""
        universal = self._scope.store.universal_path(manifest.step)
        if self._scope.group.env.is_main:
            self._scope.store.discard_universal(but_step=manifest.step)
            made_once(
                universal,
                lambda out: to_universal(path / SHARDS, out, unsharded=topology_of(manifest).unsharded),
                lock=self._scope.store.root / ".convert.lock",
            )
        self._scope.group.barrier()
        engine.load_universal(universal, manifest.optimizer_step)

    def _verify(self, step: int) -> tuple[CheckpointVerdict, str | None]:
        """Verify a checkpoint, each rank its share; returns the first problem that any rank found."""
        env = self._scope.group.env
        verdict = self._scope.group.from_main(inspect(self._scope.store.path(step)) if env.is_main else None)
        assert verdict is not None
        verdict = verify(verdict, share=env.rank, shares=env.world_size)
        problems = [problem for problem in self._scope.group.gather(verdict.problem) if problem]
        return verdict, problems[0] if problems else None

    def _note_skipped(self, reasons: Sequence[str]) -> None:
        self._scope.run_dir.log(SkippedCheckpoints(attempt=self._scope.attempt, reason="; ".join(reasons)))

    def _newest_verified(self) -> CheckpointVerdict | None:
        main = self._scope.group.env.is_main
        if main:
            self._scope.store.discard_staging()
        steps: Sequence[int] = self._scope.group.from_main(self._scope.store.steps() if main else [])
        skipped: list[str] = []
        for step in steps:
            verdict, problem = self._verify(step)
            if problem is None:
                if main and skipped:
                    self._note_skipped(skipped)
                return verdict
            skipped.append(f"{verdict.path.name}: {problem}")
        saved = step_saved(read_journal(self._scope.run_dir.events))
        if saved is not None:
            found = "; ".join(skipped) or "the directory has none"
            raise NoUsableCheckpointError(
                f"no usable checkpoint, although step {saved} was saved ({found});"
                f" restore a checkpoint under {self._scope.store.root}, or submit the run under another name"
            )
        return None
