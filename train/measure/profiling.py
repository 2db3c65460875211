"""Traces chosen steps on rank 0 with torch.profiler."""

from torch.profiler import ProfilerActivity, profile

from train.config import TrainConfig
from train.dist import DistEnv
from train.failures import UserError
from train.journal.events import Profiled, ProfileFailed
from train.observer import StepDone, StepObserver
from train.rundir import RunDir


class StepProfiler(StepObserver):
    """Records the steps of train.profile_steps on rank 0; has no effect otherwise."""

    def __init__(self, config: TrainConfig, run_dir: RunDir, env: DistEnv, attempt: int) -> None:
        """Read the steps to record from `config`.

        Args:
            config: Settings with `profile_steps`.
            run_dir: Run directory for the traces.
            env: The place of this rank; only rank 0 records.
            attempt: The attempt number for file names.
        """
        steps = config.profile_steps if env.is_main else None
        self._first, self._last = steps or (0, -1)
        self._run_dir = run_dir
        self._attempt = attempt
        self._device = env.device
        self._recording: profile | None = None
        self._from = self._until = 0

    def before(self, step: int) -> None:
        """Start recording at the first chosen step of this attempt."""
        if self._recording is None and self._first <= step <= self._last:
            activities = [ProfilerActivity.CPU]
            if self._device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self._recording = profile(activities=activities, record_shapes=True)
            self._recording.start()
            self._from = step

    def after(self, done: StepDone) -> None:
        """Stop recording after the last chosen step."""
        self._until = done.step
        if self._recording is not None and done.step >= self._last:
            self.close()

    def close(self) -> None:
        """Write the recorded trace, if any, also if the run stops within the chosen steps.

        A full disk loses the trace, but does not end the run; the failure is journaled.
        """
        if self._recording is None:
            return
        recording, self._recording = self._recording, None
        recording.stop()
        self._run_dir.profile.mkdir(exist_ok=True)
        name = f"attempt_{self._attempt}_steps_{self._from}_{self._until}.json.gz"
        path, staging = self._run_dir.profile / name, self._run_dir.profile / f".{name}"
        try:
            recording.export_chrome_trace(str(staging))
            staging.replace(path)
        except OSError as error:
            staging.unlink(missing_ok=True)
            self._run_dir.log(ProfileFailed(attempt=self._attempt, reason=str(error)))
            return
        file = str(path.relative_to(self._run_dir.root))
        self._run_dir.log(Profiled(attempt=self._attempt, step=self._until, file=file))


def check_profile_steps(config: TrainConfig, total_steps: int) -> None:
    """Check that the run has the steps to profile; the plan checks it earlier if it knows the length.

    Raises:
        UserError: The last step is beyond the end of the run.
    """
    if config.profile_steps and config.profile_steps[1] > total_steps:
        raise UserError(
            f"train.profile_steps={config.profile_steps} is beyond the last step of the run ({total_steps});"
            " choose earlier steps, or set train.profile_steps=null"
        )
