"""Going on with a run under another config: what may differ, what is said of it, what is refused. Pure."""

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
    "hardware.nodes": "the states are dealt out anew; the global batches stay the same",
    "hardware.gpus_per_node": "the states are dealt out anew; the global batches stay the same",
    "zero": "the states are dealt out anew",
    "train.max_steps": "the learning rate follows the new length from here on",
    "train.epochs": "the learning rate follows the new length from here on",
    "train.max_tokens": "the learning rate follows the new length from here on",
    "train.micro_batch_size": "accumulation makes up for it",
    "train.bad_steps": "from here on",
    "train.spike": "from here on",
    "model.activation_checkpointing": "the results stay the same",
    "model.compile": "sums are rounded otherwise, and dropout draws other numbers",
    "model.attention": "sums are rounded otherwise",
    "kernels": "sums are rounded otherwise",
    "eval.patience": "counted from the best validation on, those made before included",
    "eval": "scores before and after may not compare",
}
_NEVER = ("name", "runs_dir", "access")
LENGTH = ("train.max_steps", "train.epochs", "train.max_tokens", "eval.patience")
"""What decides where a run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """One key that differs."""

    key: str
    old: Any
    new: Any
    kind: ChangeKind
    note: str

    @property
    def text(self) -> str:
        """Old and new value, and what follows from it."""
        return f"{self.key}: {self.old!r} -> {self.new!r}" + (f" ({self.note})" if self.note else "")


def changes_between(old: RunConfig, new: RunConfig) -> list[ConfigChange]:
    """All keys that differ, each with its class."""
    before, after = dict(leaves(old.model_dump())), dict(leaves(new.model_dump()))
    keys = sorted(before.keys() | after.keys())
    return [
        ConfigChange(key=key, old=before.get(key), new=after.get(key), kind=_kind(key), note=_note(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]


def version_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[ConfigChange]:
    """Packages whose version has changed since the run was made: another minor may compute otherwise."""
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
    """Folds that came out otherwise though no key says so: another version of what draws them."""
    said = any(change.key.startswith("cv.") for change in changes)
    if said or before is None or now is None or before.sha256 == now.sha256:
        return []
    return [
        ConfigChange(
            key="cv", old=before.sha256[:12], new=now.sha256[:12], kind="refused", note="drawn otherwise"
        )
    ]


def refusals(changes: Sequence[ConfigChange], allowed: Sequence[str]) -> list[Problem]:
    """What must not differ, unless the user says by name that it may."""
    return [
        Problem(
            code="resume.changed",
            field=change.key,
            message=f"{change.key} was {change.old!r} and would become {change.new!r}: {_why(change.kind)}",
            fix="submit it as a run of its own"
            if change.kind == "never"
            else f"put it back, submit it as a run of its own, or insist: --allow-change {change.key}",
        )
        for change in changes
        if change.kind == "never" or (change.kind == "refused" and change.key not in allowed)
    ]


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _why(kind: ChangeKind) -> str:
    return "it says where the run lives" if kind == "never" else "what was trained so far depends on it"


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
    """Dotted keys and values of nested sections."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value
