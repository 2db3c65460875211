"""Writes metrics to metrics.jsonl and, if enabled, to Weights & Biases. Used on rank 0 only.

metrics.jsonl is authoritative. Errors of W&B are journaled and never interrupt training. No other module of
training uses wandb.
"""

import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Any, Literal

from train.config import TrackingConfig
from train.job import TrainJob
from train.journal.events import TrackingFailed, Validated
from train.journal.reading import of_kind, read_journal
from train.measure.wandb_files import newest_recorded_step, recorded_steps
from train.metrics import MetricsRow, latest_by_step, log_metrics, read_metrics
from train.records.base import to_row

logger = logging.getLogger(__name__)
_INIT_TIMEOUT_S = 20
_FINISH_TIMEOUT_S = 60


class Tracker:
    """Writes the metrics of rank 0."""

    def __init__(self, job: TrainJob, attempt: int) -> None:
        """Open W&B if the config enables it."""
        self._job = job
        self._attempt = attempt
        self._wandb_run: Any = None
        self._newest = 0
        """The newest training step that this attempt sent to W&B."""
        self._sent: dict[str, int] = {}
        if job.config.tracking.wandb != "disabled":
            # Only read the metrics if W&B needs them: those of a long run take a second.
            self._sent = _sent_before(job)
            self._open_wandb(job.config.tracking.wandb)
            self._fill_in()

    def log_step(self, row: MetricsRow) -> None:
        """Write one row to metrics.jsonl and to W&B."""
        log_metrics(self._job.run_dir, row)
        values = to_row(row)
        del values["attempt"]
        self._to_wandb("train", values, row.step)

    def log_values(self, prefix: str, values: dict[str, float], step: int) -> None:
        """Send values to W&B that belong to a step but not to its row, such as a validation."""
        self._to_wandb(prefix, values, step)

    def close(self, summary: dict[str, Any]) -> None:
        """Finish the W&B run with `summary`."""
        if self._wandb_run is None:
            return
        try:
            self._wandb_run.summary.update(summary)
            self._wandb_run.finish()
            self._note_missing()
        except Exception as error:  # noqa: BLE001 - a tracker must never end a run
            self._give_up(error)

    def _open_wandb(self, mode: Literal["online", "offline"]) -> None:
        config = self._job.config
        directory = self._job.run_dir.root
        os.environ["WANDB_SILENT"] = "true"
        # If the parent process uses W&B, this one would share its service and lose it when the parent ends.
        os.environ.pop("WANDB_SERVICE", None)
        try:
            import wandb

            self._wandb_run = wandb.init(
                mode=mode,
                dir=str(directory),
                id=self._job.plan.wandb_id,
                resume="allow",
                project=config.tracking.project,
                entity=config.tracking.entity,
                name=self._job.plan.label or self._job.plan.run,
                group=self._job.plan.group,
                tags=config.tracking.tags,
                config=config.model_dump(mode="json"),
                settings=wandb.Settings(
                    init_timeout=_INIT_TIMEOUT_S,
                    finish_timeout=_FINISH_TIMEOUT_S,
                    finish_timeout_raises=True,
                    console="off",
                    disable_git=True,
                    save_code=False,
                    x_disable_meta=True,
                ),
            )
            self._wandb_run.define_metric("*", step_metric="train/step")
        except Exception as error:  # noqa: BLE001 - a tracker must never end a run
            if mode == "online":
                self._note(f"cannot reach W&B, recording offline: {error}")
                self._open_wandb("offline")
            else:
                self._give_up(error)

    def _fill_in(self) -> None:
        """Send the rows to W&B that a killed attempt measured, but its W&B service had not written."""
        if self._wandb_run is None or not self._wandb_run.offline:
            return
        try:
            for row in self._missing():
                self._wandb_run.log({f"train/{key}": value for key, value in to_row(row).items()})
        except Exception as error:  # noqa: BLE001 - a tracker must never end a run
            self._give_up(error)

    def _note_missing(self) -> None:
        """Journal missing steps in W&B's file, as its service does not report failed writes (disk full)."""
        if not self._newest or not self._wandb_run.offline:
            return
        _end_service()
        there = newest_recorded_step(self._job.run_dir.root)
        if there < self._newest:
            self._note(
                f"W&B's file ends at step {there} instead of {self._newest} (disk full?); metrics.jsonl has"
                " all steps, and the next attempt sends the missing ones to W&B"
            )

    def _note(self, reason: str) -> None:
        self._job.run_dir.log(TrackingFailed(attempt=self._attempt, reason=reason))

    def _missing(self) -> list[MetricsRow]:
        """Return the rows of metrics.jsonl that are missing in W&B's offline files."""
        there = set(recorded_steps(self._job.run_dir.root))
        return [row for row in latest_by_step(read_metrics(self._job.run_dir)) if row.step not in there]

    def _to_wandb(self, prefix: str, values: dict[str, Any], step: int) -> None:
        if self._wandb_run is None or step <= self._sent.get(prefix, 0):
            return
        self._sent[prefix] = step
        self._newest = step if prefix == "train" else self._newest
        try:
            named = {f"{prefix}/{key}": value for key, value in values.items()}
            self._wandb_run.log({**named, "train/step": step})
        except Exception as error:  # noqa: BLE001 - a tracker must never end a run
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        logger.warning("W&B failed, continuing with metrics.jsonl only: %s", error)
        self._note(f"W&B failed, continuing with metrics.jsonl only: {error}")
        self._wandb_run = None


def publish_table(
    tracking: TrackingConfig, *, group: str, directory: Path, columns: list[str], rows: list[list[Any]]
) -> str:
    """Publish a table as a separate W&B run in a group; publishing again replaces it.

    Args:
        tracking: The tracking settings; `disabled` is treated as `offline`.
        group: The W&B group: the name of the sweep.
        directory: Directory for W&B's files.
        columns: Names of the columns.
        rows: Rows with one value per column.

    Returns:
        The name of the W&B run.

    Raises:
        ConnectionError: W&B cannot be reached, or refuses the login.
        TimeoutError: The W&B service did not exit in time.
    """
    import wandb

    try:
        run = wandb.init(
            mode="online" if tracking.wandb == "online" else "offline",
            dir=str(directory),
            id=hashlib.sha256(str(directory).encode()).hexdigest()[:16],
            resume="allow",
            project=tracking.project,
            entity=tracking.entity,
            name=f"{group} results",
            group=group,
            job_type="results",
            tags=tracking.tags,
            settings=wandb.Settings(console="off", disable_git=True, save_code=False, x_disable_meta=True),
        )
    except wandb.Error as error:
        raise ConnectionError(str(error)) from error
    text = [[None if cell is None else str(cell) for cell in row] for row in rows]
    run.log({"results": wandb.Table(columns=columns, data=text)})
    run.finish()
    _end_service()
    return f"{group} results"


def _end_service() -> None:
    """Stop W&B's service, so that it writes all data: finishing an offline run does not wait for that.

    Raises:
        TimeoutError: The service did not exit in time.
    """
    import wandb

    ending = threading.Thread(target=wandb.teardown, daemon=True)
    ending.start()
    ending.join(_FINISH_TIMEOUT_S)
    if ending.is_alive():
        raise TimeoutError(f"the W&B service did not exit within {_FINISH_TIMEOUT_S} s")


def _sent_before(job: TrainJob) -> dict[str, int]:
    """Return the newest step of each kind already sent to W&B; after a rollback these are not sent again."""
    trained = max((row.step for row in read_metrics(job.run_dir)), default=0)
    validated = [event.step for event in of_kind(read_journal(job.run_dir.events), Validated)]
    return {"train": trained, "validation": max(validated, default=0)}
