"""Folders of config groups. This module imports neither Hydra nor pydantic."""

from collections.abc import Sequence
from pathlib import Path

_HOME = Path(__file__).resolve().parent.parent


def packaged(name: str) -> Path:
    """Return the path of `conf` or `examples`, inside the installed package or beside it in a checkout.

    Raises:
        FileNotFoundError: Neither folder exists.
    """
    places = (_HOME / name, _HOME.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no such folder: {places[0]} or {places[1]}")


def group_roots(conf_dirs: Sequence[Path]) -> list[Path]:
    """Return the folders of groups: those of the user, then that of the project.

    Raises:
        Refused: A folder of the user does not exist.
    """
    from launcher.errors import refuse

    roots = [*conf_dirs, packaged("conf")]
    for root in roots:
        if not root.is_dir():
            raise refuse(
                "config.conf", "--conf", f"no such folder: {root}", "give a folder with config groups"
            )
    return roots


def options_of(group: str, roots: Sequence[Path]) -> set[str]:
    """Return the options of a group; empty if there is no such group."""
    return {path.stem for root in roots for path in (root / group).glob("*.yaml")}
