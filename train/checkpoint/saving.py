"""Saving with all ranks together: copied at once, written and published in the background."""

import shutil
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from train.checkpoint.manifest import FileRecord, Manifest
from train.checkpoint.progress import PROGRESS, Progress, Shape
from train.checkpoint.store import CheckpointStore
from train.checkpoint.writer import REPORTS, BackgroundSave, SaveOutcome
from train.config import CheckpointConfig
from train.dist import Group
from train.engine import SHARDS, Engine
from train.failures import SavesFailedError
from train.faults import Faults
from train.rundir import RunDir, write_json

_PACKAGES = ("torch", "deepspeed", "transformers")
FAILED_SAVES = 3
"""In a row: then the run ends rather than train on with nothing saved."""


class Saver:
    """Makes checkpoints. Every method is collective."""

    def __init__(
        self,
        run_dir: RunDir,
        group: Group,
        store: CheckpointStore,
        *,
        shape: Shape,
        config: CheckpointConfig,
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
        self._config = config
        self._running: BackgroundSave | None = None
        self._failures = 0
        self.longest_save_s = 0.0
        """From the copy to the published checkpoint; known on rank 0."""

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

    def _begin(self, progress: Progress) -> tuple[Path | None, str | None]:
        """On rank 0 the staging directory, on every rank what went wrong."""
        try:
            self._faults.hit("save.begin")
            if not self._group.env.is_main:
                return None, None
            staging = self.store.stage(progress.step)
            for name in (REPORTS, SHARDS):
                (staging / name).mkdir()
            write_json(staging / PROGRESS, progress)
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
        self.store.mark_best(progress.best_step)
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
