"""Keys and values of the config that had other names before: run directories made then stay readable.

Torch-free.
"""

from collections.abc import Iterable, Mapping
from typing import Any

RENAMED_KEYS = {
    "checkpoint.kill_every_min": "checkpoint.mtbf_min",
    "checkpoint.asynchronous": "checkpoint.async_save",
    "eval.answers": "eval.num_samples",
}
"""Former dotted key: the current one."""
RENAMED_VALUES = {"data.overlong": {"cut": "truncate"}}
"""By dotted key, former value: the current one."""


def with_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A frozen config, as nested sections, with every former name replaced; the order of keys stays."""
    return _renamed(config, RENAMED_KEYS, RENAMED_VALUES)


def with_former_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """The opposite, for hashes: a trial keeps the name of its directory when a key gets a better name."""
    keys = {current: former for former, current in RENAMED_KEYS.items()}
    values = {key: {now: then for then, now in names.items()} for key, names in RENAMED_VALUES.items()}
    return _renamed(config, keys, values)


def as_frozen(config: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Write a config for the code that a run directory keeps, which may be older than this.

    Args:
        config: Under the current names.
        frozen: The config that the run directory was made with.

    Returns:
        The config under the names that `frozen` has, without sections and keys that it lacks: that code
        refuses what it does not know. `unknown_keys` names them.
    """
    if any(_has(frozen, key) for key in RENAMED_KEYS):
        config = with_former_names(config)
    return {
        section: {key: value for key, value in values.items() if key in frozen[section]}
        if isinstance(values, Mapping)
        else values
        for section, values in config.items()
        if section in frozen
    }


def unknown_keys(keys: Iterable[str], frozen: Mapping[str, Any]) -> list[str]:
    """Which of these dotted keys the code does not know that a config was frozen with."""
    current = with_current_names(frozen)
    return [key for key in keys if not _has(current, key)]


def _has(config: Mapping[str, Any], key: str) -> bool:
    """Whether a config has a section and, in it, a key; deeper ones are the user's own."""
    section, _, rest = key.partition(".")
    return section in config and (not rest or rest.partition(".")[0] in config[section])


def _renamed(
    config: Mapping[str, Any],
    keys: Mapping[str, str],
    values: Mapping[str, Mapping[str, str]],
    at: str = "",
) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{at}{name}"
        new = value
        if isinstance(value, Mapping):
            new = _renamed(value, keys, values, f"{key}.")
        elif isinstance(value, str):
            new = values.get(key, {}).get(value, value)
        renamed[keys.get(key, key).rpartition(".")[2]] = new
    return renamed
