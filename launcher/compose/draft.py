"""A composition in the making: overrides sorted into groups, keys and axes, and what is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from launcher.compose.explain import hint, names_in
from launcher.errors import Problem, nearest


@dataclass(slots=True)
class Draft:
    """What is known so far, and what is wrong with it."""

    roots: Sequence[Path]
    """Folders of groups, searched in this order."""
    groups: list[str] = field(default_factory=list)
    keys: list[Override] = field(default_factory=list)
    axes: list[Override] = field(default_factory=list)
    """Overrides with several values."""
    choices: dict[str, str] = field(default_factory=dict)
    """Which file each group came from."""
    problems: list[Problem] = field(default_factory=list)

    def complain(self, code: str, where: str, message: str, fix: str) -> None:
        """Note a problem; the composition goes on to find more."""
        self.problems.append(Problem(code=code, field=where, message=message, fix=fix))

    def chosen(self, group: str) -> bool:
        """Whether an override names this group."""
        return any(text.partition("=")[0] == group for text in self.groups)


def sort_overrides(overrides: Sequence[str], roots: Sequence[Path]) -> Draft:
    """Split overrides into group choices, keys and axes; all are checked by name here."""
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
                "config.delete", override.key_or_group, "a key cannot be deleted", "set it to null instead"
            )
        else:
            draft.keys.append(override)
    return draft


def parse(draft: Draft, text: str) -> Override | None:
    """One override in Hydra's grammar; None if it is not, with the problem noted."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        draft.complain("config.syntax", text, f"{text!r} is no override: {reason}", "write key=value")
        return None


def is_option(draft: Draft, group: str, choice: object, options: set[str]) -> bool:
    """Whether a group has this option; if not, the problem is noted."""
    if isinstance(choice, str) and choice in options:
        return True
    draft.complain(
        "config.unknown_option", group, f"{group} has no option {choice!r}", nearest(str(choice), options)
    )
    return False


def options_of(group: str, roots: Sequence[Path]) -> set[str]:
    """The files of a group, without their suffix; empty for what is no group."""
    return {path.stem for root in roots for path in (root / group).glob("*.yaml")}


def _unknown_key(key: str, roots: Sequence[Path]) -> Problem | None:
    """A problem if no section has this key, with the nearest name that is valid."""
    *sections, name = key.split(".")
    for depth in range(len(sections) + 1):
        at, part = ".".join(sections[:depth]), (*sections, name)[depth]
        names = names_in(at)
        if names is None:
            # A mapping of the user's own, such as slurm.variables.
            return None
        if part not in {known.rpartition(".")[2] for known in names}:
            groups = (
                set() if at else {path.name for root in roots for path in root.iterdir() if path.is_dir()}
            )
            return Problem(
                code="config.unknown_key",
                field=key,
                message=f"{key} (from the command line) is no key" + (f" of {at}" if at else " or group"),
                fix=hint(key, names | groups) if names else f"{at} holds a single value",
            )
    return None
