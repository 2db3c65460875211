"""Saving and finding checkpoints with all ranks together: rank 0 decides, everybody agrees."""

import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
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
            if progress.best_step == progress.step:
                self.store.mark_best(progress.step)
            dropped = self.store.prune(self._keep_last)
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
        return Progress(**self.load(engine, verdict.path))

    def load(self, engine: Engine, path: Path) -> dict[str, Any]:
        """Load a verified checkpoint into the engine; returns the saved progress."""
        state = engine.load(path)
        return {key: state[key] for key in asdict(Progress())}

    def _newest_verified(self) -> Verdict | None:
        main = self._group.env.is_main
        if main:
            self.store.discard_staging()
        steps = self._group.from_main(self.store.steps() if main else [])
        skipped: list[str] = []
        for step in steps:
            verdict = self._group.from_main(inspect(self.store.path(step)) if main else None)
            assert verdict is not None
            verdict = verify(verdict, share=self._group.env.rank, shares=self._group.env.world_size)
            problems = [problem for problem in self._group.gather(verdict.problem) if problem]
            if not problems:
                self._check_shape(verdict)
                if main and skipped:
                    self._run_dir.log_event("skipped_checkpoints", attempt=self._attempt, why=skipped)
                return verdict
            skipped.append(f"{verdict.path.name}: {problems[0]}")
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
