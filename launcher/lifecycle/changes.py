"""Differences between the old and new config of a run, and which of them are allowed. Pure functions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from launcher.config import RunConfig
from launcher.errors import Problem
from train.job import FoldPlan
from train.packages import COMPUTING

ChangeKind = Literal["free", "notice", "refused", "never"]

_FREE = (
    "slurm",
    "tracking",
    "checkpoint",
    "hardware",
    "train.log_every_steps",
    "train.hang_timeout_s",
    "train.start_method",
    "train.trace",
    "train.profile_steps",
    "eval.num_samples",
    "eval.answer_tokens",
    "eval.batch_size",
)
_NOTICE = {
    "hardware.nodes": "the states are redistributed; the global batches stay the same",
    "hardware.gpus_per_node": "the states are redistributed; the global batches stay the same",
    "zero": "the states are redistributed",
    "train.max_steps": "the learning rate follows the new length from now on",
    "train.epochs": "the learning rate follows the new length from now on",
    "train.max_tokens": "the learning rate follows the new length from now on",
    "train.micro_batch_size": "accumulation is adjusted; the global batch stays the same",
    "train.bad_steps": "applies from now on",
    "train.spike": "applies from now on",
    "model.activation_checkpointing": "the results stay the same",
    "model.compile": "rounding and the random numbers of dropout differ",
    "model.attention": "rounding differs",
    "kernels": "rounding differs",
    "eval.patience": "validations since the best one count, including earlier ones",
    "eval": "scores before and after the change may not be comparable",
}
_NEVER = ("name", "runs_dir", "access")
LENGTH = ("train.max_steps", "train.epochs", "train.max_tokens", "eval.patience")
"""Keys that determine where a run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """One key whose value differs."""

    key: str
    old: Any
    new: Any
    kind: ChangeKind
    note: str

    @property
    def text(self) -> str:
        """The key with its old and new value, and the effect of the change."""
        return f"{self.key}: {self.old!r} -> {self.new!r}" + (f" ({self.note})" if self.note else "")


def changes_between(old: RunConfig, new: RunConfig) -> list[ConfigChange]:
    """Return all keys whose values differ, each with the kind of change."""
    before, after = dict(leaves(old.model_dump())), dict(leaves(new.model_dump()))
    keys = sorted(before.keys() | after.keys())
    return [
        ConfigChange(key=key, old=before.get(key), new=after.get(key), kind=_kind(key), note=_note(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]


def version_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[ConfigChange]:
    """Return the packages whose version has changed since the run was created.

    Another minor version may compute different results, so it is refused.
    """
    return [
        ConfigChange(
            key=f"versions.{name}",
            old=before[name],
            new=now.get(name),
            kind="notice" if _minor(before[name]) == _minor(now.get(name, "")) else "refused",
            note="",
        )
        for name in COMPUTING
        if name in before and before[name] != now.get(name)
    ]


def draw_changes(
    before: FoldPlan | None, now: FoldPlan | None, changes: Sequence[ConfigChange]
) -> list[ConfigChange]:
    """Return a change if the folds differ although no key of `cv` does, because another version made them."""
    explained = any(change.key.startswith("cv.") for change in changes)
    if explained or before is None or now is None or before.sha256 == now.sha256:
        return []
    return [
        ConfigChange(
            key="cv", old=before.sha256[:12], new=now.sha256[:12], kind="refused", note="the folds differ"
        )
    ]


def refusals(changes: Sequence[ConfigChange], allowed: Sequence[str]) -> list[Problem]:
    """Return a problem for each change that is not allowed, except for keys that the user allows by name."""
    return [
        Problem(
            code="resume.changed",
            field=change.key,
            message=f"cannot change {change.key} from {change.old!r} to {change.new!r}: {_why(change.kind)}",
            fix="submit a new run: shardline submit"
            if change.kind == "never"
            else f"restore the old value, submit a new run, or add: --allow-change {change.key}",
        )
        for change in changes
        if change.kind == "never" or (change.kind == "refused" and change.key not in allowed)
    ]


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _why(kind: ChangeKind) -> str:
    return "it determines the run directory" if kind == "never" else "the training so far depends on it"


def _kind(key: str) -> ChangeKind:
    if _under(key, _NEVER):
        return "never"
    if _is_free(key):
        return "free"
    return "notice" if _under(key, tuple(_NOTICE)) else "refused"


def _is_free(key: str) -> bool:
    return _under(key, _FREE) and key not in _NOTICE


def _note(key: str) -> str:
    best = max((name for name in _NOTICE if _under(key, (name,))), key=len, default=None)
    return _NOTICE[best] if best and not _is_free(key) else ""


def _under(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def leaves(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and values of nested sections."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value
