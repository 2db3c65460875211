"""Folders of config groups: the user's, then the project's. Imports neither Hydra nor pydantic."""

from collections.abc import Sequence
from pathlib import Path

_HOME = Path(__file__).resolve().parent.parent


def packaged(name: str) -> Path:
    """`conf` or `examples`: inside the installed package, or beside it in a checkout.

    Raises:
        FileNotFoundError: neither place has it.
    """
    places = (_HOME / name, _HOME.parent / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{name}/ is neither at {places[0]} nor at {places[1]}")


def group_roots(conf_dirs: Sequence[Path]) -> list[Path]:
    """Folders of groups: the user's, then the project's.

    Raises:
        Refused: one of the user's does not exist.
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
    """The files of a group, without their suffix; empty if there is no such group."""
    return {path.stem for root in roots for path in (root / group).glob("*.yaml")}
