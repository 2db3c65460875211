"""Saving on all ranks together: states are copied at once, then written and published in the background."""

import shutil
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from train.checkpoint.manifest import FileRecord, Manifest
from train.checkpoint.progress import PROGRESS, Progress
from train.checkpoint.scope import CheckpointScope
from train.checkpoint.writer import REPORTS, BackgroundSave, SaveOutcome
from train.config import CheckpointConfig
from train.engine.engine import SHARDS, Engine
from train.failures import SavesFailedError
from train.journal.events import CheckpointSaved, SaveFailed
from train.packages import COMPUTING
from train.rundir import write_json

FAILED_SAVES = 3
"""Number of failed saves in a row after which the run ends."""


class Saver:
    """Saves checkpoints. Every method is collective."""

    def __init__(self, scope: CheckpointScope, config: CheckpointConfig) -> None:
        """Save checkpoints of the run in `scope`; `config` sets the mode and which ones are kept."""
        self._scope = scope
        self._config = config
        self._running: BackgroundSave | None = None
        self._failures = 0
        self.longest_save_s = 0.0
        """Duration of the longest save, from copy to publication; known on rank 0 only."""

    def save(self, engine: Engine, progress: Progress) -> float:
        """Begin a save: copy the states, then write them in the background.

        Returns:
            Seconds for which training was blocked.

        Raises:
            SavesFailedError: The last three saves failed.
        """
        self.join()
        started = time.monotonic()
        begun = self._scope.group.gather(self._begin(progress))
        problems = [problem for _, problem in begun if problem]
        staging = begun[0][0]
        if problems or staging is None:
            self._note(SaveOutcome(progress.step, problems[0]))
            return time.monotonic() - started
        files = engine.copy_states(staging)
        now = replace(progress)
        copied, manifest = self._copied(), self._manifest(now, engine)
        stall_s = time.monotonic() - started

        def publish(records: dict[str, FileRecord]) -> None:
            self._publish(staging, manifest.model_copy(update={"files": records}), now, started, stall_s)

        self._running = BackgroundSave(
            staging,
            progress.step,
            files,
            rank=self._scope.group.env.rank,
            world_size=self._scope.group.env.world_size,
            faults=self._scope.faults,
            publish=publish,
            problem=copied,
        )
        self._running.start()
        if not self._config.async_save:
            self.join()
        return time.monotonic() - started

    def _copied(self) -> str | None:
        """Inject a fault between copy and write, if one is set; returns the problem."""
        try:
            self._scope.faults.hit("save.copy")
        except OSError as error:
            return str(error.strerror)
        return None

    def join(self) -> SaveOutcome | None:
        """Wait until the running save is published or has failed; returns None if there is none.

        Raises:
            SavesFailedError: The last three saves failed.
        """
        save = self._running
        if save is None:
            return None
        self._running = None
        main = self._scope.group.env.is_main
        if not main:
            save.join()
        # A rank on a full disk may be unable to write its report, for which rank 0 would wait.
        theirs = self._scope.group.gather(None if main else save.outcome)
        failed = [outcome for outcome in theirs if outcome and outcome.problem]
        if main:
            if failed:
                save.abandon()
            save.join()
        outcome = self._scope.group.from_main(failed[0] if failed else save.outcome)
        assert outcome is not None
        self._note(outcome)
        return outcome

    def _begin(self, progress: Progress) -> tuple[Path | None, str | None]:
        """Return the staging directory (rank 0 only) and the problem, if any."""
        try:
            self._scope.faults.hit("save.begin")
            if not self._scope.group.env.is_main:
                return None, None
            staging = self._scope.store.stage(progress.step)
            for name in (REPORTS, SHARDS):
                (staging / name).mkdir()
            write_json(staging / PROGRESS, progress)
            # DeepSpeed's own tools read the name of the shards' folder from this file.
            (staging / "latest").write_text(SHARDS)
        except OSError as error:
            return None, str(error.strerror)
        return staging, None

    def _publish(
        self, staging: Path, manifest: Manifest, progress: Progress, started: float, stall_s: float
    ) -> None:
        """Commit the checkpoint and prune old ones; runs on rank 0 in the background."""
        shutil.rmtree(staging / REPORTS)
        self._scope.store.commit(staging, manifest)
        self._scope.store.mark_best(progress.best_step)
        self._scope.run_dir.log(
            CheckpointSaved(
                attempt=self._scope.attempt,
                step=manifest.step,
                bytes=manifest.nbytes,
                seconds=round(time.monotonic() - started, 3),
                stall_s=round(stall_s, 4),
                dropped=self._scope.store.prune(
                    self._config.keep_last, self._config.keep_every_steps, progress.best_step
                ),
            )
        )
        self.longest_save_s = max(self.longest_save_s, time.monotonic() - started)
        self._scope.store.discard_universal()
        self._scope.faults.hit("save.end", step=manifest.step)

    def _note(self, outcome: SaveOutcome) -> None:
        if outcome.problem is None:
            self._failures = 0
            return
        self._failures += 1
        if self._scope.group.env.is_main:
            self._scope.store.discard_staging()
            self._scope.run_dir.log(
                SaveFailed(
                    attempt=self._scope.attempt,
                    step=outcome.step,
                    reason=outcome.problem,
                    in_a_row=self._failures,
                )
            )
        if self._failures >= FAILED_SAVES:
            raise SavesFailedError(
                f"{FAILED_SAVES} saves in a row failed, the last at step {outcome.step}: {outcome.problem};"
                " free disk space or raise the quota, then run: shardline resume"
            )

    def _manifest(self, progress: Progress, engine: Engine) -> Manifest:
        return Manifest(
            step=progress.step,
            samples=progress.samples,
            attempt=self._scope.attempt,
            world_size=self._scope.topology.world_size,
            zero_stage=self._scope.topology.zero_stage,
            precision=self._scope.topology.precision,
            optimizer_step=engine.optimizer_step(),
            loss=progress.loss,
            time=time.time(),
            versions={name: version(name) for name in COMPUTING},
            files={},
        )
