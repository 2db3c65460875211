"""Compose the config of one run, or change groups and keys of an existing config."""

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
"""The section that applies only to `submit -m`."""


@dataclass(frozen=True, slots=True)
class Composed:
    """A valid config with its overrides and choices."""

    config: RunConfig
    overrides: tuple[str, ...]
    choices: dict[str, str]
    """The chosen option of each group."""

    @property
    def yaml(self) -> str:
        """The resolved config as text."""
        return as_yaml(self.config.model_dump(mode="json"))


def compose_run(overrides: Sequence[str], conf_dirs: Sequence[Path] = ()) -> Composed:
    """Compose the config of one run.

    Args:
        overrides: Hydra overrides: `group=option` and `dotted.key=value`.
        conf_dirs: Folders of the user's groups, searched before those of the project.

    Raises:
        Refused: The config has problems, all of which are listed.
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
    """Change some groups and keys of a resolved config.

    Args:
        text: The YAML of a run directory's config; renamed keys are accepted.
        overrides: Hydra overrides; a group replaces the whole section of its name.
        conf_dirs: Folders of the user's groups, searched before those of the project.

    Raises:
        Refused: The config has problems, all of which are listed.
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
                f"cannot change the group {group!r} of an existing run: it sets keys in every section",
                "set the keys to change, such as train.max_steps=100",
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
    """Validate plain values; if they are invalid, record the problems in the draft and return None."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        given = {text.split("=")[0].lstrip("+") for text in overrides}
        draft.problems += [explain(entry, draft.choices, given) for entry in error.errors()]
        return None


def _refuse_sweeps(draft: Draft) -> None:
    """Record a problem for each override of a single run that only a sweep can have."""
    for override in draft.axes:
        draft.complain(
            "config.sweep",
            override.key_or_group,
            f"several values for a single run: {override.input_line!r}",
            "add -m to run all of them; if the value is a list, write KEY=[A,B]",
        )
    for name in [text.partition("=")[0] for text in draft.groups] + [key.key_or_group for key in draft.keys]:
        if name.partition(".")[0] == NOT_FOR_ONE_RUN:
            draft.complain(
                "config.sweep", name, f"{name} has no effect on a single run", "add -m to run a sweep"
            )
    draft.keys = [key for key in draft.keys if key.key_or_group.partition(".")[0] != NOT_FOR_ONE_RUN]
