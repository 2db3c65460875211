"""The manifest of a checkpoint, with size and hash of every file. Torch-free."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

MANIFEST = "manifest.json"


class FileRecord(BaseModel):
    """Size and hash of one file at the time of the commit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    sha256: str


class Manifest(BaseModel):
    """The manifest, which is written last: a directory without one is not a checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    samples: int
    attempt: int
    world_size: int
    zero_stage: int
    precision: str
    optimizer_step: float
    """AdamW's step count, which excludes skipped steps."""
    loss: float | None
    """The loss of the newest logged step; the first loss after a conversion is compared with it."""
    time: float
    versions: dict[str, str]
    files: dict[str, FileRecord]
    """The files, by path relative to the checkpoint."""

    @property
    def nbytes(self) -> int:
        """Total size of all files, in bytes."""
        return sum(entry.size for entry in self.files.values())


class SealedManifest(Manifest):
    """A manifest on disk, sealed with a hash: an altered number misleads a resume like an altered shard."""

    seal: str
    """SHA-256 of all other fields."""

    @classmethod
    def of(cls, manifest: Manifest) -> "SealedManifest":
        """Return a sealed copy of a complete manifest, which may already be sealed."""
        return cls(**manifest.model_dump(exclude={"seal"}), seal=_seal(manifest))

    @property
    def intact(self) -> bool:
        """Whether the manifest is unchanged since it was sealed."""
        return self.seal == _seal(self)


def _seal(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.model_dump_json(exclude={"seal"}).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CheckpointVerdict:
    """The verdict on a checkpoint: usable, or the problem."""

    path: Path
    manifest: Manifest | None
    problem: str | None

    @property
    def usable(self) -> bool:
        """Whether the checkpoint has no problem."""
        return self.problem is None


def record(path: Path) -> FileRecord:
    """Return size and hash of a file on disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(size=path.stat().st_size, sha256=digest)


def inspect(path: Path) -> CheckpointVerdict:
    """Check a checkpoint's manifest and the sizes and owners of its files, without reading the files."""
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        return CheckpointVerdict(path, None, "not committed: manifest.json is missing")
    try:
        manifest = SealedManifest.model_validate_json(manifest_path.read_bytes())
    except (ValidationError, OSError):
        return CheckpointVerdict(path, None, "manifest.json cannot be read")
    if not manifest.intact:
        return CheckpointVerdict(path, None, "manifest.json was changed after the commit")
    for name, expected in manifest.files.items():
        if problem := _look_at(path / name, name, expected.size):
            return CheckpointVerdict(path, manifest, problem)
    return CheckpointVerdict(path, manifest, None)


def _look_at(file: Path, name: str, size: int) -> str | None:
    """Return the problem with a file, without reading it: DeepSpeed would unpickle it."""
    try:
        facts = file.lstat()
    except OSError:
        return f"{name} is missing"
    if not stat.S_ISREG(facts.st_mode):
        return f"{name} is not a regular file"
    if facts.st_uid != os.getuid() and not file.parent.stat().st_mode & 0o020:
        return f"{name} belongs to another user"
    if facts.st_mode & 0o002:
        return f"{name} is writable by everyone"
    if facts.st_size != size:
        return f"{name} has {facts.st_size} bytes instead of {size}"
    return None


def verify(verdict: CheckpointVerdict, *, share: int = 0, shares: int = 1) -> CheckpointVerdict:
    """Verify the hashes of a checkpoint's files; with `shares` ranks, each verifies its share of them."""
    if verdict.manifest is None or not verdict.usable:
        return verdict
    names = sorted(verdict.manifest.files)[share::shares]
    for name in names:
        try:
            same = record(verdict.path / name) == verdict.manifest.files[name]
        except OSError as error:
            return CheckpointVerdict(
                verdict.path, verdict.manifest, f"{name} cannot be read: {error.strerror}"
            )
        if not same:
            return CheckpointVerdict(verdict.path, verdict.manifest, f"{name} was changed after the commit")
    return verdict
