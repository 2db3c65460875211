"""Environment variables with the attempt and start number of a rank. Torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass

_ATTEMPT = "SHARDLINE_ATTEMPT"
_RESTART = "SHARDLINE_RESTART"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStart:
    """The attempt and the start that a process belongs to."""

    attempt: int = 1
    """Number of the attempt, counted from 1; each job of the run is an attempt."""
    restart: int = 0
    """Number of the start within the attempt, counted from 0."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "RankStart":
        """Read the two variables; without them, this is the first start of the first attempt."""
        return cls(attempt=int(environ.get(_ATTEMPT, "1")), restart=int(environ.get(_RESTART, "0")))

    def as_environ(self) -> dict[str, str]:
        """Return the variables that `from_environ` reads back."""
        return {_ATTEMPT: str(self.attempt), _RESTART: str(self.restart)}
