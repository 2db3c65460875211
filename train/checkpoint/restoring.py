"""Finding and loading checkpoints with all ranks together: rank 0 decides, everybody agrees."""

from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from train.checkpoint.elastic import take_apart
from train.checkpoint.manifest import Manifest, Verdict, inspect, verify
from train.checkpoint.progress import Progress, Resumed, Shape, read_progress, shape_of
from train.checkpoint.store import CheckpointStore
from train.dist import Group
from train.engine import SHARDS, Engine
from train.failures import NoUsableCheckpointError
from train.faults import Faults
from train.rundir import RunDir, read_lines


class Restorer:
    """Loads checkpoints. Every method is collective."""

    def __init__(
        self,
        run_dir: RunDir,
        group: Group,
        store: CheckpointStore,
        *,
        shape: Shape,
        attempt: int,
        faults: Faults,
    ) -> None:
        """Bind the store to the ranks that use it."""
        self.store = store
        self._run_dir = run_dir
        self._group = group
        self._shape = shape
        self._attempt = attempt
        self._faults = faults

    def resume(self, engine: Engine) -> Resumed:
        """Load the newest verified checkpoint, or start at 0 when there was no progress yet.

        Raises:
            NoUsableCheckpointError: there was progress and nothing is left of it.
        """
        verdict = self._newest_verified()
        self._faults.hit("load")
        if verdict is None or verdict.manifest is None:
            return Resumed(Progress())
        found = shape_of(verdict.manifest)
        converted = found != self._shape and not (found.plain and self._shape.plain)
        if converted:
            progress = self._load_converted(engine, verdict.path, verdict.manifest)
        else:
            engine.load(verdict.path)
            progress = read_progress(verdict.path)
        if self._group.env.is_main:
            self.store.mark_best(progress.best_step)
        return Resumed(progress, found if converted else None)

    def load_best(self, engine: Engine, progress: Progress) -> int:
        """Load the best checkpoint by validation, if there is one and it is not what the engine holds.

        A running save has been joined before: the best one may be the one that it makes.

        Returns:
            The step that the engine holds now; a damaged best checkpoint is journaled and left alone.
        """
        if progress.best_step is None or progress.best_step == progress.step:
            return progress.step
        verdict, problem = self._verify(progress.best_step)
        if problem or verdict.manifest is None:
            if self._group.env.is_main:
                why = [f"{verdict.path.name} (the best): {problem}"]
                self._run_dir.log_event("skipped_checkpoints", attempt=self._attempt, why=why)
            return progress.step
        found = shape_of(verdict.manifest)
        if found == self._shape or (found.plain and self._shape.plain):
            engine.load(verdict.path)
        else:
            self._load_converted(engine, verdict.path, verdict.manifest)
        return progress.best_step

    def _load_converted(self, engine: Engine, path: Path, manifest: Manifest) -> Progress:
        """Take a checkpoint apart, once, and give each rank its part."""
        universal = self.store.universal_path(manifest.step)
        if self._group.env.is_main:
            with FileLock(self.store.root / ".convert.lock"):
                self.store.discard_universal(but_step=manifest.step)
                if not universal.exists():
                    staging = self.store.root / f".staging_universal_{manifest.step}"
                    take_apart(path / SHARDS, staging, plain=shape_of(manifest).plain)
                    staging.rename(universal)
        self._group.barrier()
        engine.load_converted(universal, manifest.optimizer_step)
        return read_progress(path)

    def _verify(self, step: int) -> tuple[Verdict, str | None]:
        """Every rank reads its share of a checkpoint; the first problem that any of them found."""
        env = self._group.env
        verdict = self._group.from_main(inspect(self.store.path(step)) if env.is_main else None)
        assert verdict is not None
        verdict = verify(verdict, share=env.rank, shares=env.world_size)
        problems = [problem for problem in self._group.gather(verdict.problem) if problem]
        return verdict, problems[0] if problems else None

    def _newest_verified(self) -> Verdict | None:
        main = self._group.env.is_main
        if main:
            self.store.discard_staging()
        steps: Sequence[int] = self._group.from_main(self.store.steps() if main else [])
        skipped: list[str] = []
        for step in steps:
            verdict, problem = self._verify(step)
            if problem is None:
                if main and skipped:
                    self._run_dir.log_event("skipped_checkpoints", attempt=self._attempt, why=skipped)
                return verdict
            skipped.append(f"{verdict.path.name}: {problem}")
        saved = [row["step"] for row in read_lines(self._run_dir.events) if row["event"] == "checkpoint"]
        if saved:
            found = "; ".join(skipped) or "none is left"
            raise NoUsableCheckpointError(
                f"the run had saved step {max(saved)}, but no usable checkpoint remains ({found});"
                f" restore one under {self.store.root}, or submit the config under another name to start over"
            )
        return None
