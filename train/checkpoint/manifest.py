"""What makes a directory a checkpoint: a manifest with size and hash of every file. Torch-free."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

MANIFEST = "manifest.json"


class FileRecord(BaseModel):
    """One file as it was committed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    sha256: str


class Manifest(BaseModel):
    """Written last: without it the directory is no checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    samples: int
    attempt: int
    world_size: int
    zero_stage: int
    precision: str
    optimizer_step: float
    """AdamW's own count: steps that were skipped are not in it."""
    loss: float | None
    """Of the last step before; what the first step after a conversion is held against."""
    time: float
    versions: dict[str, str]
    files: dict[str, FileRecord]
    """By path relative to the checkpoint."""

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return sum(entry.size for entry in self.files.values())


class SealedManifest(Manifest):
    """A manifest as it stands on disk: a number changed in it misleads a resume as a changed shard does."""

    seal: str
    """SHA-256 of all the rest."""

    @classmethod
    def of(cls, manifest: Manifest) -> "SealedManifest":
        """Seal a manifest that is complete, anew if it was sealed before."""
        return cls(**manifest.model_dump(exclude={"seal"}), seal=_seal(manifest))

    @property
    def intact(self) -> bool:
        """Whether nothing in it has changed since it was sealed."""
        return self.seal == _seal(self)


def _seal(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.model_dump_json(exclude={"seal"}).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CheckpointVerdict:
    """Whether a checkpoint can be used, and why not."""

    path: Path
    manifest: Manifest | None
    problem: str | None

    @property
    def usable(self) -> bool:
        """True when nothing is wrong with it."""
        return self.problem is None


def record(path: Path) -> FileRecord:
    """Size and hash of a file on disk."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(size=path.stat().st_size, sha256=digest)


def inspect(path: Path) -> CheckpointVerdict:
    """Judge a checkpoint by its manifest and its files' sizes and owners, without reading them."""
    manifest_path = path / MANIFEST
    if not manifest_path.is_file():
        return CheckpointVerdict(path, None, "it was never committed (no manifest)")
    try:
        manifest = SealedManifest.model_validate_json(manifest_path.read_bytes())
    except (ValidationError, OSError):
        return CheckpointVerdict(path, None, "its manifest cannot be read")
    if not manifest.intact:
        return CheckpointVerdict(path, None, "its manifest differs from what was committed")
    for name, expected in manifest.files.items():
        if problem := _look_at(path / name, name, expected.size):
            return CheckpointVerdict(path, manifest, problem)
    return CheckpointVerdict(path, manifest, None)


def _look_at(file: Path, name: str, size: int) -> str | None:
    """What is wrong with a file before a byte of it is read: DeepSpeed would unpickle it."""
    try:
        facts = file.lstat()
    except OSError:
        return f"{name} is missing"
    if not stat.S_ISREG(facts.st_mode):
        return f"{name} is no plain file"
    if facts.st_uid != os.getuid() and not file.parent.stat().st_mode & 0o020:
        return f"{name} belongs to another user"
    if facts.st_mode & 0o002:
        return f"{name} can be written by anybody"
    if facts.st_size != size:
        return f"{name} has {facts.st_size} bytes instead of {size}"
    return None


def verify(verdict: CheckpointVerdict, *, share: int = 0, shares: int = 1) -> CheckpointVerdict:
    """Also read every byte of a checkpoint; with `shares` ranks, each reads its part of the files."""
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
            return CheckpointVerdict(
                verdict.path, verdict.manifest, f"{name} differs from what was committed"
            )
    return verdict
