"""Former names of config keys and values, so that older run directories stay readable. Torch-free."""

from collections.abc import Iterable, Mapping
from typing import Any

RENAMED_KEYS = {
    "checkpoint.kill_every_min": "checkpoint.mtbf_min",
    "checkpoint.asynchronous": "checkpoint.async_save",
    "eval.answers": "eval.num_samples",
}
"""Current dotted key by former key."""
RENAMED_VALUES = {"data.overlong": {"cut": "truncate"}}
"""Current value by dotted key and former value."""


def with_current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved config with every former name replaced; the order of keys does not change."""
    return _renamed(config, RENAMED_KEYS, RENAMED_VALUES)


def with_former_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with former names, for hashes: renaming a key must not change a trial's directory."""
    keys = {current: former for former, current in RENAMED_KEYS.items()}
    values = {key: {now: then for then, now in names.items()} for key, names in RENAMED_VALUES.items()}
    return _renamed(config, keys, values)


def as_frozen(config: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config for the code snapshot of a run directory, which may be older than this code.

    Args:
        config: The config with current names.
        frozen: The config that the run directory was made with.

    Returns:
        The config with the names in `frozen`, without keys that `frozen` lacks, as the snapshot would reject
        them. `unknown_keys` returns these keys.
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
    """Return those of the dotted keys that are unknown to the code that wrote `frozen`."""
    current = with_current_names(frozen)
    return [key for key in keys if not _has(current, key)]


def _has(config: Mapping[str, Any], key: str) -> bool:
    """Return whether a config has a section and the key in it; deeper keys are not checked."""
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
