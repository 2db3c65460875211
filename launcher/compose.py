"""Hydra's and omegaconf's only owner: overrides and conf/ to a typed config, or every problem at once.

Hydra composes the groups; key overrides are applied after it, in order, as Hydra itself would. So unknown
groups, unknown keys, wrong types and wrong values all come back in one list.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from launcher.config import RunConfig
from launcher.errors import Problem, Refused, nearest, refuse
from launcher.explain import explain, names_in
from slurm.values import SECRET_NAME

_SECRET_VARIABLE = re.compile(rf"\$\{{oc\.env:[^}},]*{SECRET_NAME.pattern}[^}}]*\}}", re.IGNORECASE)
_HERE = Path(__file__).resolve().parent


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
        return yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)


class _OwnGroups(SearchPathPlugin):  # type: ignore[misc]
    """Puts the user's folders before ours: a file of theirs replaces the one of the same name."""

    roots: ClassVar[list[Path]] = []

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra while it initialises."""
        for root in self.roots:
            search_path.prepend("own", f"file://{root.resolve()}", anchor="main")


@dataclass(slots=True)
class _Draft:
    """A composition in the making: what is known so far, and what is wrong with it."""

    groups: list[str] = field(default_factory=list)
    keys: list[Override] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def complain(self, code: str, where: str, message: str, fix: str) -> None:
        self.problems.append(Problem(code=code, field=where, message=message, fix=fix))


def packaged(name: str) -> Path:
    """`conf` or `examples`: inside the installed package, or beside it in a checkout.

    Raises:
        FileNotFoundError: neither place has it.
    """
    places = (_HERE / name, _HERE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{name}/ is neither at {places[0]} nor at {places[1]}")


def compose_run(overrides: Sequence[str], conf_dirs: Sequence[Path] = ()) -> Composed:
    """Compose one run's config.

    Args:
        overrides: Hydra overrides: `group=option` and `dotted.key=value`.
        conf_dirs: Directories of the user's own groups, searched before the project's.

    Raises:
        Refused: with all problems that were found.
    """
    roots = [*conf_dirs, packaged("conf")]
    missing = [root for root in roots if not root.is_dir()]
    if missing:
        raise refuse("config.conf", "--conf", f"there is no folder {missing[0]}", "name a folder of groups")
    _register_resolvers()
    draft = _sort_overrides(overrides, roots)
    container = _compose_groups(draft, roots)
    values = _apply_keys(draft, container)
    config = _type(draft, values, overrides)
    if draft.problems or config is None:
        raise Refused(draft.problems)
    return Composed(config, tuple(overrides), draft.choices)


def compose_change(text: str, overrides: Sequence[str], conf_dirs: Sequence[Path] = ()) -> Composed:
    """A resolved config with some of its groups and keys replaced.

    Args:
        text: The config as YAML, as a run directory keeps it.
        overrides: Hydra overrides; a group replaces the whole section of its name.
        conf_dirs: As for `compose_run`.

    Raises:
        Refused: with all problems that were found.
    """
    roots = [*conf_dirs, packaged("conf")]
    _register_resolvers()
    draft = _sort_overrides(overrides, roots)
    container = OmegaConf.create(text)
    assert isinstance(container, DictConfig)
    groups = [override.partition("=")[0] for override in draft.groups]
    for group in groups:
        if group in ("experiment", "site"):
            draft.complain(
                "config.group",
                group,
                f"{group} sets keys of every section",
                "name the keys that should change",
            )
    if groups:
        chosen = _compose_groups(draft, roots)
        for group in groups:
            if group in container:
                container[group] = OmegaConf.to_container(chosen[group], resolve=True)
    config = _type(draft, _apply_keys(draft, container), overrides)
    if draft.problems or config is None:
        raise Refused(draft.problems)
    return Composed(config, tuple(overrides), draft.choices)


def _register_resolvers() -> None:
    OmegaConf.register_new_resolver("examples", lambda name: str(packaged("examples") / name), replace=True)


def _sort_overrides(overrides: Sequence[str], roots: Sequence[Path]) -> _Draft:
    """Split overrides into group choices and keys; both are checked by name here."""
    draft = _Draft()
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            reason = str(error).splitlines()[0]
            draft.complain("config.syntax", text, f"{text!r} is no override: {reason}", "write key=value")
            continue
        if override.is_sweep_override():
            draft.complain(
                "config.sweep",
                text,
                f"{text!r} names several values; sweeps are not in this version",
                "give one value, or quote a list: key=[a,b]",
            )
        elif options := _options(override.key_or_group, roots):
            choice = override.value()
            if isinstance(choice, str) and choice in options:
                draft.groups.append(text)
            else:
                draft.complain(
                    "config.unknown_option",
                    override.key_or_group,
                    f"{override.key_or_group} has no option {choice!r}",
                    nearest(str(choice), options),
                )
        elif problem := _unknown_key(override.key_or_group, roots):
            draft.problems.append(problem)
        else:
            draft.keys.append(override)
    return draft


def _options(group: str, roots: Sequence[Path]) -> set[str]:
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
                fix=nearest(key, names | groups) if names else f"{at} holds a single value",
            )
    return None


def _compose_groups(draft: _Draft, roots: Sequence[Path]) -> DictConfig:
    """Let Hydra compose the chosen groups, without any key override."""
    _OwnGroups.roots = list(roots[:-1])
    Plugins.instance().register(_OwnGroups)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(roots[-1]), version_base="1.3"):
            composed = compose("config", overrides=draft.groups, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        message = " ".join(str(error).split())
        draft.complain("config.compose", "config", message, "mend the YAML file that the message names")
        raise Refused(draft.problems) from error
    draft.choices = {name: str(choice) for name, choice in composed.hydra.runtime.choices.items()}
    OmegaConf.set_struct(composed, False)
    del composed["hydra"]
    result: DictConfig = composed
    return result


def _apply_keys(draft: _Draft, container: DictConfig) -> dict[str, Any]:
    """Apply key overrides in order, then resolve all interpolations."""
    for override in draft.keys:
        if override.is_delete():
            draft.complain(
                "config.delete", override.key_or_group, "a key cannot be deleted", "set it to null instead"
            )
            continue
        OmegaConf.update(container, override.key_or_group, override.value(), merge=False, force_add=True)
    text = OmegaConf.to_yaml(container)
    for match in _SECRET_VARIABLE.finditer(text):
        draft.complain(
            "config.secret",
            "config",
            f"{match.group(0)} would write a secret into the run directory",
            "leave it in the environment: jobs inherit it",
        )
    try:
        values: Any = OmegaConf.to_container(container, resolve=True)
    except OmegaConfBaseException as error:
        message = " ".join(str(error).split())
        draft.complain("config.interpolation", "config", message, "mend the interpolation")
        raise Refused(draft.problems) from error
    result: dict[str, Any] = values
    return result


def _type(draft: _Draft, values: dict[str, Any], overrides: Sequence[str]) -> RunConfig | None:
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        spoken = {text.split("=")[0].lstrip("+") for text in overrides}
        draft.problems += [explain(entry, draft.choices, spoken) for entry in error.errors()]
        return None
