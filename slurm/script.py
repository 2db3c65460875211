"""Builds the batch script from typed settings. Pure."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from slurm.config import EnvironmentConfig, SlurmConfig

_TAIL_NOTE = "# Decides, after any outcome above, whether the job ends or is requeued."


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """The properties of one job that do not come from the user's settings."""

    name: str
    """Unique over all starts of all runs, so that a job can be found by name if its id was not recorded."""
    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    """GPUs to request per node."""
    folder: Path
    """Folder of the logs and of the pickled callable, on a file system that all nodes share."""
    code: Path
    """The frozen sources."""
    python: str
    """The Python interpreter that submits."""
    array: str | None = None
    """Value of sbatch's --array: indices and the number of tasks that run at once, such as `0-255%8`."""
    after: str | None = None
    """Id of a job that has to end first, in any state."""
    tail: tuple[str, ...] | None
    """Module and arguments of the program that runs after the ranks, however they ended."""


def batch_script(config: SlurmConfig, spec: JobSpec) -> str:
    """Return the batch script: options, environment, one srun with one task per node, and the tail."""
    options = "".join(f"#SBATCH --{name}{_value(value)}\n" for name, value in _options(config, spec))
    python = _python(config.environment, spec)
    task = [*_srun(config, spec), *_inside(config.environment, spec), "-u", "-m", "slurm.executor"]
    tail = f"{_TAIL_NOTE}\nexec {shlex.join([python, '-m', *spec.tail])}\n" if spec.tail else ""
    return f"""\
#!/bin/bash
{options}
{_setup(config, spec)}
# The signals are for the ranks; this script ignores them and waits for the ranks to end.
trap : TERM USR2
{shlex.join([*task, str(spec.folder)])}

{tail}"""


def _options(config: SlurmConfig, spec: JobSpec) -> list[tuple[str, str | int | bool]]:
    gres = f"{config.gpu_type}:{spec.gpus_per_node}" if config.gpu_type else spec.gpus_per_node
    ranks = spec.ranks_per_node
    wished: list[tuple[str, str | int | bool | None]] = [
        ("job-name", spec.name),
        ("array", spec.array),
        ("nodes", spec.nodes),
        ("ntasks-per-node", 1),
        ("gpus-per-node", gres if spec.gpus_per_node else None),
        ("cpus-per-task", config.cpus_per_gpu and config.cpus_per_gpu * ranks),
        ("mem", config.mem_per_gpu_gb and f"{config.mem_per_gpu_gb * ranks}G"),
        ("exclusive", config.exclusive or None),
        ("time", config.time_min),
        ("signal", f"USR2@{config.signal_delay_s}"),
        ("requeue" if config.requeue else "no-requeue", True),
        ("open-mode", "append"),
        ("output", f"{spec.folder}/{_id(spec)}_batch.out"),
        ("chdir", str(spec.folder)),
        ("partition", config.partition),
        ("account", config.account),
        ("qos", config.qos),
        ("constraint", config.constraint),
        ("reservation", config.reservation),
        ("nodelist", config.nodelist),
        ("exclude", config.exclude),
        ("nice", config.nice),
        ("dependency", _dependency(config, spec)),
        ("licenses", config.licenses),
        ("comment", config.comment),
        ("mail-user", config.mail_user),
        ("mail-type", ",".join(config.mail_type) or None),
        *sorted(config.extra.items()),
    ]
    return [(name, value) for name, value in wished if value is not None and value is not False]


def _id(spec: JobSpec) -> str:
    """Return Slurm's file name pattern for the job id."""
    return "%A_%a" if spec.array else "%j"


def _dependency(config: SlurmConfig, spec: JobSpec) -> str | None:
    both = [
        *([config.dependency] if config.dependency else []),
        *([f"afterany:{spec.after}"] if spec.after else []),
    ]
    return ",".join(both) or None


def _value(value: str | int | bool) -> str:
    """Return a value in sbatch's syntax, which is like a shell's; values have no quotes (slurm/values.py)."""
    return "" if value is True else f'="{value}"'


def _setup(config: SlurmConfig, spec: JobSpec) -> str:
    environment = config.environment
    variables = {
        "PYTHONPATH": str(spec.code),
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "SUBMITIT_EXECUTOR": "slurm",
        **config.variables,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    if config.modules:
        lines.append(shlex.join(["module", "load", *config.modules]))
    if environment.kind == "conda" and environment.path:
        prefix = environment.path
        lines += [
            f"export CONDA_PREFIX={shlex.quote(prefix)}",
            f"export PATH={shlex.quote(prefix + '/bin')}:$PATH",
            f"for script in {shlex.quote(prefix)}/etc/conda/activate.d/*.sh; do"
            ' [ -r "$script" ] && source "$script"; done',
        ]
    return "\n".join([*lines, *config.setup, ""])


def _srun(config: SlurmConfig, spec: JobSpec) -> list[str]:
    """Return srun's arguments: one task per node, and all end if one fails.

    Since Slurm 22.05 srun does not inherit --cpus-per-task, so it is repeated.
    """
    command = ["srun", "--kill-on-bad-exit=1", "--unbuffered", f"--output={spec.folder}/{_id(spec)}_%n.out"]
    command.append("--open-mode=append")
    if config.cpus_per_gpu:
        command.append(f"--cpus-per-task={config.cpus_per_gpu * spec.ranks_per_node}")
    environment = config.environment
    if environment.kind == "pyxis":
        mounts = ",".join(_mounts(environment, spec))
        command += [f"--container-image={environment.path}", f"--container-mounts={mounts}"]
        command += ["--no-container-mount-home", f"--container-workdir={spec.folder}"]
    return command


def _inside(environment: EnvironmentConfig, spec: JobSpec) -> list[str]:
    """Return the command that starts Python for a task, inside the container if there is one."""
    if environment.kind == "pyxis":
        return ["python3"]
    if environment.kind == "apptainer":
        binds = [f"--bind={mount}" for mount in _mounts(environment, spec)]
        gpu = ["--nv"] if spec.gpus_per_node else []
        return ["apptainer", "exec", *gpu, *binds, str(environment.path), "python3"]
    return [_python(environment, spec)]


def _python(environment: EnvironmentConfig, spec: JobSpec) -> str:
    """Return the Python interpreter outside of containers, which also runs the tail."""
    outside = environment.kind in ("venv", "conda") and environment.path
    return f"{environment.path}/bin/python" if outside else spec.python


def _mounts(environment: EnvironmentConfig, spec: JobSpec) -> list[str]:
    run = spec.folder.parent
    pairs = [mount if ":" in mount else f"{mount}:{mount}" for mount in environment.mounts]
    return [f"{run}:{run}", *pairs]
