"""Saving and finding checkpoints with all ranks together: rank 0 decides, everybody agrees."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from train.checkpoint.elastic import take_apart
from train.checkpoint.manifest import FileRecord, Manifest, Verdict, inspect, verify
from train.checkpoint.store import CheckpointStore
from train.checkpoint.writer import REPORTS, BackgroundSave, SaveOutcome
from train.config import CheckpointConfig
from train.dist import Group
from train.engine import SHARDS, Engine
from train.failures import NoUsableCheckpointError, SavesFailedError
from train.faults import Faults
from train.rundir import RunDir, read_lines, write_json

_PACKAGES = ("torch", "deepspeed", "transformers")
_PROGRESS = "progress.json"
FAILED_SAVES = 3
"""In a row: then the run ends rather than train on with nothing saved."""


@dataclass(slots=True)
class Progress:
    """Where a run stands; travels inside every checkpoint."""

    step: int = 0
    samples: int = 0
    tokens: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    loss: float | None = None
    """Of the newest logged step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """On what the states of a checkpoint depend besides the model."""

    world_size: int
    zero_stage: int
    precision: str

    @property
    def plain(self) -> bool:
        """Without ZeRO every rank holds everything: their number does not matter."""
        return self.zero_stage == 0


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume found."""

    progress: Progress
    converted_from: Shape | None = None
    """Set when the checkpoint was another shape's."""


class Checkpoints:
    """The run's checkpoints, as the loop uses them. Every method is collective."""

    def __init__(
        self,
        run_dir: RunDir,
        group: Group,
        *,
        shape: Shape,
        config: CheckpointConfig,
        attempt: int,
        faults: Faults,
    ) -> None:
        """Bind the store to the ranks that use it."""
        self._run_dir = run_dir
        self._group = group
        self._shape = shape
        self._config = config
        self._attempt = attempt
        self._faults = faults
        self._running: BackgroundSave | None = None
        self._failures = 0
        self.longest_save_s = 0.0
        """From the copy to the published checkpoint; known on rank 0."""
        self.store = CheckpointStore(run_dir.checkpoints, faults)

    def save(self, engine: Engine, progress: Progress) -> float:
        """Begin a save: the states are copied, the rest happens in the background.

        Returns:
            Seconds that the training waited.

        Raises:
            SavesFailedError: it is the third one in a row that failed.
        """
        self.join()
        started = time.monotonic()
        begun = self._group.gather(self._begin(progress))
        problems = [problem for _, problem in begun if problem]
        staging = begun[0][0]
        if problems or staging is None:
            self._note(SaveOutcome(progress.step, problems[0], disk_full=True))
            return time.monotonic() - started
        files = engine.copy_states(staging)
        copied, manifest = self._copied(), self._manifest(replace(progress), engine)
        stall_s = time.monotonic() - started

        def publish(records: dict[str, FileRecord]) -> None:
            self._publish(
                staging, manifest.model_copy(update={"files": records}), progress_now, started, stall_s
            )

        progress_now = replace(progress)
        self._running = BackgroundSave(
            staging,
            progress.step,
            files,
            rank=self._group.env.rank,
            world_size=self._group.env.world_size,
            faults=self._faults,
            publish=publish,
            problem=copied,
        )
        self._running.start()
        if not self._config.asynchronous:
            self.join()
        return time.monotonic() - started

    def _copied(self) -> str | None:
        """Where a fault may strike between the copy and the writing; a full disk shows in writing only."""
        try:
            self._faults.hit("save.copy")
        except OSError as error:
            return str(error.strerror)
        return None

    def join(self) -> SaveOutcome | None:
        """Wait until the running save is published or has failed; None when there was none.

        Raises:
            SavesFailedError: it is the third one in a row that failed.
        """
        save = self._running
        if save is None:
            return None
        self._running = None
        main = self._group.env.is_main
        if not main:
            save.join()
        # Rank 0 waits for reports that a rank on a full disk may not be able to leave.
        theirs = self._group.gather(None if main else save.outcome)
        failed = [outcome for outcome in theirs if outcome and outcome.problem]
        if main:
            if failed:
                save.abandon()
            save.join()
        outcome = self._group.from_main(failed[0] if failed else save.outcome)
        assert outcome is not None
        self._note(outcome)
        return outcome

    def resume(self, engine: Engine) -> Resumed:
        """Load the newest verified checkpoint, or start at 0 when there was no progress yet.

        Raises:
            NoUsableCheckpointError: there was progress and nothing is left of it.
        """
        verdict = self._newest_verified()
        self._faults.hit("load")
        if verdict is None or verdict.manifest is None:
            return Resumed(Progress())
        found = _shape_of(verdict.manifest)
        converted = found != self._shape and not (found.plain and self._shape.plain)
        if converted:
            progress = self._load_converted(engine, verdict.path, verdict.manifest)
        else:
            engine.load(verdict.path)
            progress = read_progress(verdict.path)
        if self._group.env.is_main:
            self._mark_best(progress)
        return Resumed(progress, found if converted else None)

    def load_best(self, engine: Engine, progress: Progress) -> int:
        """Load the best checkpoint by validation, if there is one and it is not what the engine holds.

        Returns:
            The step that the engine holds now; a damaged best checkpoint is journaled and left alone.
        """
        self.join()
        if progress.best_step is None or progress.best_step == progress.step:
            return progress.step
        verdict, problem = self._verify(progress.best_step)
        if problem or verdict.manifest is None:
            if self._group.env.is_main:
                why = [f"{verdict.path.name} (the best): {problem}"]
                self._run_dir.log_event("skipped_checkpoints", attempt=self._attempt, why=why)
            return progress.step
        found = _shape_of(verdict.manifest)
        if found == self._shape or (found.plain and self._shape.plain):
            engine.load(verdict.path)
        else:
            self._load_converted(engine, verdict.path, verdict.manifest)
        return progress.best_step

    def _begin(self, progress: Progress) -> tuple[Path | None, str | None]:
        """On rank 0 the staging directory, on every rank what went wrong."""
        try:
            self._faults.hit("save.begin")
            if not self._group.env.is_main:
                return None, None
            staging = self.store.stage(progress.step)
            for name in (REPORTS, SHARDS):
                (staging / name).mkdir()
            write_json(staging / _PROGRESS, progress)
            # For DeepSpeed's own tools, which look there for the name of the shards' folder.
            (staging / "latest").write_text(SHARDS)
        except OSError as error:
            return None, str(error.strerror)
        return staging, None

    def _publish(
        self, staging: Path, manifest: Manifest, progress: Progress, started: float, stall_s: float
    ) -> None:
        """On rank 0, in the background: prove, rename, then drop what is no longer kept."""
        shutil.rmtree(staging / REPORTS)
        self.store.commit(staging, manifest)
        self._mark_best(progress)
        self._run_dir.log_event(
            "checkpoint",
            attempt=self._attempt,
            step=manifest.step,
            bytes=manifest.nbytes,
            seconds=round(time.monotonic() - started, 3),
            stall_s=round(stall_s, 4),
            dropped=self.store.prune(
                self._config.keep_last, self._config.keep_every_steps, progress.best_step
            ),
        )
        self.longest_save_s = max(self.longest_save_s, time.monotonic() - started)
        self.store.discard_universal()
        self._faults.hit("save.end", step=manifest.step)

    def _note(self, outcome: SaveOutcome) -> None:
        if outcome.problem is None:
            self._failures = 0
            return
        self._failures += 1
        if self._group.env.is_main:
            self.store.discard_staging()
            self._run_dir.log_event(
                "save_failed",
                attempt=self._attempt,
                step=outcome.step,
                why=outcome.problem,
                in_a_row=self._failures,
            )
        if self._failures >= FAILED_SAVES:
            raise SavesFailedError(
                f"{FAILED_SAVES} saves in a row failed, the last at step {outcome.step}: {outcome.problem};"
                " make room or raise the quota, then: shardline resume"
            )

    def _load_converted(self, engine: Engine, path: Path, manifest: Manifest) -> Progress:
        """Take a checkpoint apart, once, and give each rank its part."""
        universal = self.store.universal_path(manifest.step)
        if self._group.env.is_main:
            with FileLock(self.store.root / ".convert.lock"):
                self.store.discard_universal(but_step=manifest.step)
                if not universal.exists():
                    staging = self.store.root / f".staging_universal_{manifest.step}"
                    take_apart(path / SHARDS, staging, plain=_shape_of(manifest).plain)
                    staging.rename(universal)
        self._group.barrier()
        engine.load_converted(universal, manifest.optimizer_step)
        return read_progress(path)

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

    def _manifest(self, progress: Progress, engine: Engine) -> Manifest:
        return Manifest(
            step=progress.step,
            samples=progress.samples,
            attempt=self._attempt,
            world_size=self._shape.world_size,
            zero_stage=self._shape.zero_stage,
            precision=self._shape.precision,
            optimizer_step=engine.optimizer_step(),
            loss=progress.loss,
            time=time.time(),
            versions={name: version(name) for name in _PACKAGES},
            files={},
        )


def _shape_of(manifest: Manifest) -> Shape:
    return Shape(world_size=manifest.world_size, zero_stage=manifest.zero_stage, precision=manifest.precision)


def read_progress(checkpoint: Path) -> Progress:
    """The counters of a verified checkpoint."""
    return Progress(**json.loads((checkpoint / _PROGRESS).read_text()))
