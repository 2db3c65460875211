"""Slurm's commands as shell scripts: jobs wait for ever. For what a login node does before any job starts."""

import os
from dataclasses import dataclass
from pathlib import Path

_SBATCH = """\
#!/bin/sh
# Takes a script, notes the job and answers as Slurm does; `refuse` and `hook` change that.
cd {folder}
case "$*" in *--test-only*) cat > /dev/null; exit 0;; esac
for script; do :; done
name=$(sed -n 's/^#SBATCH --job-name="\\(.*\\)"/\\1/p' "$script")
array=$(sed -n 's/^#SBATCH --array="0-\\([0-9]*\\).*"/\\1/p' "$script")
echo call >> calls
if [ -f refuse ] && [ "$(wc -l < calls)" -ge "$(cat refuse)" ]; then
  echo "sbatch: error: $(cat why)" >&2
  exit 1
fi
id=$((1000 + $(wc -l < calls)))
echo "$id $name $array" >> jobs
[ -x hook ] && ./hook
echo "Submitted batch job $id"
"""
_SQUEUE = """\
#!/bin/sh
echo call >> {folder}/squeue_calls
[ -f {folder}/jobs ] || exit 0
awk '{{ if ($3 == "") print $1 "|PENDING|" $2 "|N/A||Priority";
       else for (i = 0; i <= $3; i++) print $1 "_" i "|PENDING|" $2 "|N/A||Priority" }}' {folder}/jobs
"""
_SCONTROL = """\
#!/bin/sh
echo "MaxArraySize            = {largest}"
"""
_NOTHING = "#!/bin/sh\nexit 0\n"


@dataclass(frozen=True)
class FakeSlurm:
    """A folder of programs, and what they were asked."""

    folder: Path

    @property
    def path(self) -> str:
        """For PATH: these programs first."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    @property
    def jobs(self) -> list[tuple[str, str, int]]:
        """Id, name and number of elements of what was taken."""
        lines = (self.folder / "jobs").read_text().splitlines() if (self.folder / "jobs").exists() else []
        return [(i, name, int(last) + 1) for i, name, last in (line.split() for line in lines)]

    @property
    def squeue_calls(self) -> int:
        """How often the queue was asked."""
        calls = self.folder / "squeue_calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    def refuse_from(self, call: int, why: str) -> None:
        """Take nothing from this call of sbatch on."""
        (self.folder / "why").write_text(why)
        (self.folder / "refuse").write_text(str(call))

    def accept(self) -> None:
        """Take everything again."""
        (self.folder / "refuse").unlink()

    def kill_the_caller_after(self, call: int) -> None:
        """The job is taken, and whoever asked is killed before it hears of it."""
        hook = self.folder / "hook"
        # sbatch's parent is the command; the hook's parent is sbatch.
        hook.write_text(
            f'#!/bin/sh\n[ "$(wc -l < calls)" -eq {call} ] || exit 0\nrm hook\n'
            "kill -9 $(ps -o ppid= -p $PPID)\n"
        )
        hook.chmod(0o755)


def fake_slurm(folder: Path, largest_array: int = 1001) -> FakeSlurm:
    """Write the programs."""
    folder.mkdir()
    texts = {"sbatch": _SBATCH, "squeue": _SQUEUE, "scontrol": _SCONTROL, "srun": _NOTHING, "sacct": _NOTHING}
    for name, text in texts.items():
        program = folder / name
        program.write_text(text if text is _NOTHING else text.format(folder=folder, largest=largest_array))
        program.chmod(0o755)
    return FakeSlurm(folder)
