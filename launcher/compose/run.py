"""One run's config: composed, or another one with some of its groups and keys replaced."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import ValidationError

from launcher.compose.draft import Draft, sort_overrides
from launcher.compose.explain import explain
from launcher.compose.groups import compose_groups, resolve, set_keys
from launcher.compose.roots import group_roots
from launcher.config import RunConfig
from launcher.errors import Refused
from launcher.records.runs import as_yaml
from train.config_names import with_current_names

NOT_FOR_ONE_RUN = "sweep"
"""The section that only `submit -m` reads."""


@dataclass(frozen=True, slots=True)
class Composed:
    """A valid config and how it came about."""

    config: RunConfig
    overrides: tuple[str, ...]
    choices: dict[str, str]
    """Which file each group came from."""

    @property
    def yaml(self) -> str:
        """The resolved config as text."""
        return as_yaml(self.config.model_dump(mode="json"))


def compose_run(overrides: Sequence[str], conf_dirs: Sequence[Path] = ()) -> Composed:
    """Compose one run's config.

    Args:
        overrides: Hydra overrides: `group=option` and `dotted.key=value`.
        conf_dirs: Directories of the user's own groups, searched before the project's.

    Raises:
        Refused: with all problems that were found.
    """
    draft = sort_overrides(overrides, group_roots(conf_dirs))
    _refuse_sweeps(draft)
    container = compose_groups(draft, draft.groups)
    del container[NOT_FOR_ONE_RUN]
    set_keys(draft, container)
    config = typed(draft, resolve(draft, container), overrides)
    if draft.problems or config is None:
        raise Refused(draft.problems)
    return Composed(config, tuple(overrides), draft.choices)


def compose_change(text: str, overrides: Sequence[str], conf_dirs: Sequence[Path] = ()) -> Composed:
    """A resolved config with some of its groups and keys replaced.

    Args:
        text: The config as YAML, as a run directory keeps it; names that were replaced since are understood.
        overrides: Hydra overrides; a group replaces the whole section of its name.
        conf_dirs: As for `compose_run`.

    Raises:
        Refused: with all problems that were found.
    """
    draft = sort_overrides(overrides, group_roots(conf_dirs))
    _refuse_sweeps(draft)
    values: Any = OmegaConf.to_container(OmegaConf.create(text))
    container = OmegaConf.create(with_current_names(values))
    groups = [override.partition("=")[0] for override in draft.groups]
    for group in groups:
        if group in ("experiment", "site"):
            draft.complain(
                "config.group",
                group,
                f"{group} sets keys in every section",
                "give the keys to change",
            )
    if groups:
        chosen = compose_groups(draft, draft.groups)
        for group in groups:
            if group in container:
                container[group] = OmegaConf.to_container(chosen[group], resolve=True)
    set_keys(draft, container)
    config = typed(draft, resolve(draft, container), overrides)
    if draft.problems or config is None:
        raise Refused(draft.problems)
    return Composed(config, tuple(overrides), draft.choices)


def typed(draft: Draft, values: dict[str, Any], overrides: Sequence[str]) -> RunConfig | None:
    """Validate plain values; what is wrong is noted in the draft."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        spoken = {text.split("=")[0].lstrip("+") for text in overrides}
        draft.problems += [explain(entry, draft.choices, spoken) for entry in error.errors()]
        return None


def _refuse_sweeps(draft: Draft) -> None:
    """Several values, and settings of a sweep, where one run is meant."""
    for override in draft.axes:
        draft.complain(
            "config.sweep",
            override.key_or_group,
            f"{override.input_line!r} has several values",
            "use -m to run them all; write a value that is itself a list as key=[a,b]",
        )
    for name in [text.partition("=")[0] for text in draft.groups] + [key.key_or_group for key in draft.keys]:
        if name.partition(".")[0] == NOT_FOR_ONE_RUN:
            draft.complain(
                "config.sweep", name, f"{name} has no effect on a single run", "use -m to make a sweep"
            )
    draft.keys = [key for key in draft.keys if key.key_or_group.partition(".")[0] != NOT_FOR_ONE_RUN]
