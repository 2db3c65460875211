"""The environment variables by which a node agent numbers the starts of its ranks. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass

_ATTEMPT = "SHARDLINE_ATTEMPT"
_RESTART = "SHARDLINE_RESTART"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStart:
    """Which start of which attempt a process belongs to."""

    attempt: int = 1
    """Counts the jobs of a run, from 1."""
    restart: int = 0
    """Counts the starts inside one job, from 0."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "RankStart":
        """Read the two variables; a process that no agent started is the first start of the first attempt."""
        return cls(attempt=int(environ.get(_ATTEMPT, "1")), restart=int(environ.get(_RESTART, "0")))

    def as_environ(self) -> dict[str, str]:
        """Return the variables that `from_environ` reads back."""
        return {_ATTEMPT: str(self.attempt), _RESTART: str(self.restart)}
