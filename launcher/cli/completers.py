"""What the shell suggests for arguments: names of runs, and groups, options and keys of a config.

A shell waits for this at every TAB: nothing here imports torch, Hydra or, once the keys are cached, pydantic.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Completer = Callable[..., Iterable[str]]
"""Called by argcomplete with the keywords `prefix` and `parsed_args`; it filters by prefix itself."""


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell's request, which is in the environment, and end the process."""
    import argcomplete

    # Options are suggested once a dash is typed: without one they would hide the names of runs and keys.
    argcomplete.autocomplete(parser, always_complete_options=False)


def complete_runs(prefix: str, **_: Any) -> list[str]:
    """Names of runs and sweeps, newest first; after `SWEEP/` the names of its trials."""
    from launcher.records.runs import all_runs, all_sweeps, runs_root

    sweep, slash, _name = prefix.rpartition("/")
    if slash:
        trials = all_runs(runs_root() / sweep) if (runs_root() / sweep).is_dir() else []
        return [f"{sweep}/{trial.root.name}" for trial in trials]
    return [place.root.name for place in (*all_runs(runs_root()), *all_sweeps(runs_root()))]


def complete_single_runs(prefix: str, **_: Any) -> list[str]:
    """Names of runs, and of sweeps with a slash, since the verb takes only their trials."""
    from launcher.records.runs import all_runs, all_sweeps, runs_root

    if "/" in prefix:
        return complete_runs(prefix)
    runs, sweeps = all_runs(runs_root()), all_sweeps(runs_root())
    return [*(run.root.name for run in runs), *(f"{sweep.root.name}/" for sweep in sweeps)]


def complete_sweeps(**_: Any) -> list[str]:
    """Names of sweeps, newest first."""
    from launcher.records.runs import all_sweeps, runs_root

    return [sweep.root.name for sweep in all_sweeps(runs_root())]


def complete_overrides(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Groups and keys, each with `=`; after the `=` the group's options or the key's values."""
    from launcher.compose.roots import packaged

    roots = [*(getattr(parsed_args, "conf", None) or []), packaged("conf")]
    name, equals, value = prefix.partition("=")
    if equals:
        return [f"{name}={text}" for text in _values(name, value, roots)]
    return _names(prefix, _groups(roots))


def complete_keys(prefix: str, **_: Any) -> list[str]:
    """Dotted keys without `=`."""
    return [text.rstrip("=") for text in _names(prefix, [])]


def _values(name: str, value: str, roots: Sequence[Path]) -> list[str]:
    """Options of a group, or values of a key; of a comma-separated list, for its last part."""
    from launcher.compose.roots import options_of

    before, comma, _last = value.rpartition(",")
    found = sorted(options_of(name, roots)) or _cached_keys().get(name.lstrip("+"), [])
    return [f"{before}{comma}{text}" for text in found]


def _names(prefix: str, groups: Sequence[str]) -> list[str]:
    """Groups and sections as long as several fit, so that the list stays short; then keys."""
    keys = _cached_keys()
    sections = sorted({f"{key.partition('.')[0]}." for key in keys if "." in key})
    plain = [f"{name}=" for name in (*groups, *(key for key in keys if "." not in key))]
    fitting = [name for name in (*plain, *sections) if name.startswith(prefix)]
    if fitting and (len(fitting) > 1 or fitting[0] in plain):
        return fitting
    return [f"{key}=" for key in keys if key.startswith(prefix)]


def _groups(roots: Sequence[Path]) -> list[str]:
    folders = (path for root in roots if root.is_dir() for path in root.iterdir())
    return sorted({path.name for path in folders if path.is_dir() and any(path.glob("*.yaml"))})


def _cached_keys() -> Mapping[str, list[str]]:
    """Every config key with its values, from the cache as long as no source file of the config has changed.

    Importing the config's classes takes longer than a person wants to wait for a TAB.
    """
    from train.cache import cache_dir, key_of

    file = cache_dir() / "completion" / f"{key_of(str(Path(__file__)))}.json"
    try:
        cached = json.loads(file.read_text())
        keys: dict[str, list[str]] = cached["keys"]
        if all(Path(path).stat().st_mtime_ns == changed for path, changed in cached["sources"].items()):
            return keys
    except (OSError, ValueError, KeyError):
        # No cache yet, or a source file was removed.
        pass
    return _read_keys(file)


def _read_keys(file: Path) -> Mapping[str, list[str]]:
    """Read the keys from the config's classes and cache them with the source files that were imported."""
    from launcher.compose.keys import config_keys
    from train.rundir import write_json

    keys = config_keys()
    ours = [name for name in sys.modules if name.split(".")[0] in ("launcher", "slurm", "train")]
    paths = [path for name in ours if (path := getattr(sys.modules[name], "__file__", None))]
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(file, {"sources": {path: Path(path).stat().st_mtime_ns for path in paths}, "keys": keys})
    except OSError:
        # The cache cannot be written: the next TAB is as slow as this one.
        pass
    return keys
