"""Calls of Hydra: compose the chosen groups, set keys, and resolve interpolations."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from launcher.compose.defaults import defaults_of
from launcher.compose.draft import Draft
from launcher.compose.roots import packaged
from launcher.config import CommandConfig
from launcher.errors import Refused
from slurm.values import SECRET_NAME

_SECRET_VARIABLE = re.compile(rf"\$\{{oc\.env:[^}},]*{SECRET_NAME.pattern}[^}}]*\}}", re.IGNORECASE)


class _OwnGroups(SearchPathPlugin):  # type: ignore[misc]
    """Hydra plugin that searches the user's folders before conf/, so that files there take precedence."""

    roots: ClassVar[list[Path]] = []

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Prepend the user's folders. Hydra calls this during initialisation."""
        for root in self.roots:
            search_path.prepend("own", f"file://{root.resolve()}", anchor="main")


def compose_groups(draft: Draft, groups: Sequence[str]) -> DictConfig:
    """Compose the chosen groups with Hydra on top of the defaults of the classes, without key overrides.

    Raises:
        Refused: Hydra cannot find or read a file.
    """
    OmegaConf.register_new_resolver("examples", lambda name: str(packaged("examples") / name), replace=True)
    _OwnGroups.roots = list(draft.roots[:-1])
    Plugins.instance().register(_OwnGroups)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(draft.roots[-1]), version_base="1.3"):
            composed = compose("config", overrides=list(groups), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        message = " ".join(str(error).split())
        draft.complain("config.compose", "config", message, "fix the YAML file named in the message")
        raise Refused(draft.problems) from error
    draft.choices = {name: str(choice) for name, choice in composed.hydra.runtime.choices.items()}
    OmegaConf.set_struct(composed, False)
    del composed["hydra"]
    # With all keys present, interpolations can refer to keys that no file sets.
    result = OmegaConf.merge(defaults_of(CommandConfig), composed)
    assert isinstance(result, DictConfig)
    return result


def set_keys(draft: Draft, container: DictConfig) -> None:
    """Set the keys of the draft in their order, as Hydra does."""
    for override in draft.keys:
        OmegaConf.update(container, override.key_or_group, override.value(), merge=False, force_add=True)


def resolve(draft: Draft, container: DictConfig) -> dict[str, Any]:
    """Resolve all interpolations and return plain values.

    Raises:
        Refused: An interpolation refers to a key that does not exist.
    """
    for match in _SECRET_VARIABLE.finditer(OmegaConf.to_yaml(container)):
        draft.complain(
            "config.secret",
            "config",
            f"{match.group(0)} would write a secret into the run directory",
            "remove it from the config: jobs inherit the environment",
        )
    try:
        values: Any = OmegaConf.to_container(container, resolve=True)
    except OmegaConfBaseException as error:
        message = " ".join(str(error).split())
        draft.complain("config.interpolation", "config", message, "fix the interpolation")
        raise Refused(draft.problems) from error
    result: dict[str, Any] = values
    return result
