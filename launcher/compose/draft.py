"""The overrides of one composition, sorted into groups, keys and axes, and the problems found in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from launcher.compose.explain import hint, names_in
from launcher.compose.roots import options_of
from launcher.errors import Problem, nearest


@dataclass(slots=True)
class Draft:
    """The sorted overrides and the problems found so far."""

    roots: Sequence[Path]
    """Folders of groups, searched in this order."""
    groups: list[str] = field(default_factory=list)
    keys: list[Override] = field(default_factory=list)
    axes: list[Override] = field(default_factory=list)
    """Overrides with several values."""
    choices: dict[str, str] = field(default_factory=dict)
    """The chosen option of each group."""
    problems: list[Problem] = field(default_factory=list)

    def complain(self, code: str, where: str, message: str, fix: str) -> None:
        """Record a problem and continue, so that one message lists all problems."""
        self.problems.append(Problem(code=code, field=where, message=message, fix=fix))

    def chosen(self, group: str) -> bool:
        """Return whether an override chooses an option of this group."""
        return any(text.partition("=")[0] == group for text in self.groups)


def sort_overrides(overrides: Sequence[str], roots: Sequence[Path]) -> Draft:
    """Split overrides into group choices, keys and axes, and check their names."""
    draft = Draft(roots)
    for text in overrides:
        override = parse(draft, text)
        if override is None:
            continue
        options = options_of(override.key_or_group, roots)
        if not options and (problem := _unknown_key(override.key_or_group, roots)):
            draft.problems.append(problem)
        elif override.is_sweep_override():
            draft.axes.append(override)
        elif options:
            if is_option(draft, override.key_or_group, override.value(), options):
                draft.groups.append(text)
        elif override.is_delete():
            draft.complain(
                "config.delete",
                override.key_or_group,
                f"cannot delete the key {override.key_or_group!r}",
                f"set {override.key_or_group}=null",
            )
        else:
            draft.keys.append(override)
    return draft


def parse(draft: Draft, text: str) -> Override | None:
    """Parse one override in Hydra's grammar; record the problem and return None if it is invalid."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        draft.complain(
            "config.syntax",
            text,
            f"invalid override {text!r}: {reason}",
            "write KEY=VALUE, and quote special characters: KEY='VALUE'",
        )
        return None


def is_option(draft: Draft, group: str, choice: object, options: set[str]) -> bool:
    """Return whether a group has this option; if not, record the problem."""
    if isinstance(choice, str) and choice in options:
        return True
    message = f"unknown option {choice!r} of group {group!r}"
    draft.complain("config.unknown_option", group, message, nearest(str(choice), options))
    return False


def _unknown_key(key: str, roots: Sequence[Path]) -> Problem | None:
    """Return a problem with the nearest valid name if a key does not exist, else None."""
    *sections, name = key.split(".")
    for depth in range(len(sections) + 1):
        at, part = ".".join(sections[:depth]), (*sections, name)[depth]
        names = names_in(at)
        if names is None:
            # The keys of a mapping, such as slurm.variables, are chosen by the user.
            return None
        if part not in {known.rpartition(".")[2] for known in names}:
            groups = (
                set() if at else {path.name for root in roots for path in root.iterdir() if path.is_dir()}
            )
            kind = "key" if at else "key or group"
            return Problem(
                code="config.unknown_key",
                field=key,
                message=f"unknown {kind} {key!r} (command line)",
                fix=hint(key, names | groups) if names else f"{at} is a value without keys; set {at}=VALUE",
            )
    return None
