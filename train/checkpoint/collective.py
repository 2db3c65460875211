"""Saving and finding checkpoints with all ranks together: rank 0 decides, everybody agrees."""

import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from train.checkpoint.manifest import Manifest, Verdict, inspect, record, verify
from train.checkpoint.store import CheckpointStore
from train.dist import Group
from train.engine import Engine
from train.failures import NoUsableCheckpointError, UserError
from train.rundir import RunDir, read_lines

_PACKAGES = ("torch", "deepspeed", "transformers")


@dataclass(slots=True)
class Progress:
    """Where a run stands; travels inside every checkpoint."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    best_loss: float | None = None
    best_step: int | None = None


class Checkpoints:
    """The run's checkpoints, as the loop uses them. Every method is collective."""

    def __init__(
        self, run_dir: RunDir, group: Group, *, zero_stage: int, attempt: int, keep_last: int
    ) -> None:
        """Bind the store to the ranks that use it."""
        self._run_dir = run_dir
        self._group = group
        self._zero_stage = zero_stage
        self._attempt = attempt
        self._keep_last = keep_last
        self.store = CheckpointStore(run_dir.checkpoints)

    def save(self, engine: Engine, progress: Progress) -> None:
        """Write, prove, publish, then drop what is no longer kept."""
        started = time.monotonic()
        main = self._group.env.is_main
        staging = self._group.from_main(self.store.stage(progress.step) if main else None)
        assert staging is not None
        written = engine.save(staging, asdict(progress))
        if main:
            written += [path for path in staging.iterdir() if path.is_file()]
        records = {str(path.relative_to(staging)): record(path) for path in written}
        everywhere = self._group.gather(records)
        if main:
            files = {name: entry for part in everywhere for name, entry in part.items()}
            self.store.commit(staging, self._manifest(progress, files))
            self._mark_best(progress)
            dropped = self.store.prune(self._keep_last, progress.best_step)
            self._run_dir.log_event(
                "checkpoint",
                attempt=self._attempt,
                step=progress.step,
                bytes=sum(entry.size for entry in files.values()),
                seconds=round(time.monotonic() - started, 3),
                dropped=dropped,
            )
        self._group.barrier()

    def resume(self, engine: Engine) -> Progress:
        """Load the newest verified checkpoint, or start at 0 when there was no progress yet.

        Raises:
            NoUsableCheckpointError: there was progress and nothing is left of it.
            UserError: the checkpoint was written by another number of ranks.
        """
        verdict = self._newest_verified()
        if verdict is None or verdict.manifest is None:
            return Progress()
        state = engine.load(verdict.path)
        progress = Progress(**{key: state[key] for key in asdict(Progress())})
        if self._group.env.is_main:
            self._mark_best(progress)
        return progress

    def load_best(self, engine: Engine, progress: Progress) -> int:
        """Load the best checkpoint by validation, if there is one and it is not what the engine holds.

        Returns:
            The step that the engine holds now; a damaged best checkpoint is journaled and left alone.
        """
        if progress.best_step is None or progress.best_step == progress.step:
            return progress.step
        verdict, problem = self._verify(progress.best_step)
        if problem:
            if self._group.env.is_main:
                why = [f"{verdict.path.name} (the best): {problem}"]
                self._run_dir.log_event("skipped_checkpoints", attempt=self._attempt, why=why)
            return progress.step
        engine.load(verdict.path)
        return progress.best_step

    def _mark_best(self, progress: Progress) -> None:
        if progress.best_step is not None and self.store.path(progress.best_step).is_dir():
            self.store.mark_best(progress.best_step)

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
        steps = self._group.from_main(self.store.steps() if main else [])
        skipped: list[str] = []
        for step in steps:
            verdict, problem = self._verify(step)
            if problem is None:
                self._check_shape(verdict)
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

    def _check_shape(self, verdict: Verdict) -> None:
        manifest = verdict.manifest
        assert manifest is not None
        found = (manifest.world_size, manifest.zero_stage)
        wanted = (self._group.env.world_size, self._zero_stage)
        if found != wanted:
            raise UserError(
                f"{verdict.path.name} was saved by {found[0]} ranks at ZeRO stage {found[1]}, this start has "
                f"{wanted[0]} ranks at stage {wanted[1]}; this version resumes on the same shape only"
            )

    def _manifest(self, progress: Progress, files: dict[str, Any]) -> Manifest:
        return Manifest(
            step=progress.step,
            samples=progress.samples,
            attempt=self._attempt,
            world_size=self._group.env.world_size,
            zero_stage=self._zero_stage,
            time=time.time(),
            versions={name: version(name) for name in _PACKAGES},
            files=files,
        )
