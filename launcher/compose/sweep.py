"""Compose the configs of a sweep: parse axes in Hydra's sweep grammar, and make a typed config of each point.

Every config equals the one that Hydra composes for its point. Groups are composed once per combination of
options; keys are set in plain values, unless an interpolation may refer to them.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from launcher.compose.axes import Axis, Interval, check_axes, points
from launcher.compose.draft import Draft, is_option, parse, sort_overrides
from launcher.compose.explain import explain
from launcher.compose.groups import compose_groups, resolve, set_keys
from launcher.compose.roots import group_roots, options_of
from launcher.compose.run import NOT_FOR_ONE_RUN, typed
from launcher.config import RunConfig, SweepConfig
from launcher.errors import Problem, Refused
from launcher.records.points import Point

_REFERENCE = re.compile(r"\$\{[^}:]*\}")
"""An interpolation that refers to another key, not to the environment."""


@dataclass(frozen=True, slots=True)
class TrialConfig:
    """One point of a sweep, with its config."""

    point: Point
    config: RunConfig


@dataclass(frozen=True, slots=True)
class ComposedSweep:
    """All configs of a sweep."""

    settings: SweepConfig
    axes: tuple[Axis, ...]
    trials: tuple[TrialConfig, ...]
    overrides: tuple[str, ...]


def compose_sweep(overrides: Sequence[str], conf_dirs: Sequence[Path] = ()) -> ComposedSweep:
    """Compose the configs of a sweep.

    Args:
        overrides: Hydra overrides, some of them with several values.
        conf_dirs: Folders of the user's groups, searched before those of the project.

    Raises:
        Refused: The configs have problems, all of which are listed once.
    """
    draft = sort_overrides(overrides, group_roots(conf_dirs))
    sweep_keys = [key for key in draft.keys if key.key_or_group.partition(".")[0] == NOT_FOR_ONE_RUN]
    draft.keys = [key for key in draft.keys if key not in sweep_keys]
    given = _axes(draft, draft.axes)
    first = [f"{axis.key}={axis.choices[0]}" for axis in given if axis.is_group and axis.choices]
    container = compose_groups(draft, [*draft.groups, *first])
    settings = _settings(draft, container, sweep_keys)
    set_keys(draft, container)
    axes = _merged(given, _axes_of_file(draft, settings), _fold_axis(container, settings))
    draft.problems += check_axes(axes, settings)
    if draft.problems:
        raise Refused(_each_once(draft.problems))
    groups = [axis for axis in axes if axis.is_group]
    # This combination of groups is already composed, unless a file of the sweep group varies more groups.
    composed = {tuple(axis.choices[0] for axis in groups): container} if set(groups) <= set(given) else {}
    trials = _fill(draft, points(axes, settings), axes, overrides, composed)
    if draft.problems:
        raise Refused(_each_once(draft.problems))
    return ComposedSweep(settings, tuple(axes), tuple(trials), tuple(overrides))


def _axes(draft: Draft, overrides: Sequence[Override]) -> list[Axis]:
    axes = []
    for override in overrides:
        key, value = override.key_or_group, override.value()
        options = options_of(key, draft.roots)
        if isinstance(value, IntervalSweep):
            integer = isinstance(value.start, int)
            axes.append(
                Axis(key, False, interval=Interval(value.start, value.end, "log" in value.tags, integer))
            )
            continue
        if isinstance(value, Glob):
            choices: list[Any] = sorted(value.filter(sorted(options)))
            if not choices:
                message = f"no option of group {key!r} matches {override.input_line!r}"
                draft.complain("sweep.axes", key, message, "change the pattern")
        else:
            parsed = [parse(draft, f"{key}={text}") for text in override.sweep_string_iterator()]
            choices = [entry.value() for entry in parsed if entry]
        if options:
            choices = [choice for choice in choices if is_option(draft, key, choice, options)]
        unique = [choice for i, choice in enumerate(choices) if choice not in choices[:i]]
        if unique:
            axes.append(Axis(key, bool(options), tuple(unique)))
    return axes


def _settings(draft: Draft, container: DictConfig, keys: Sequence[Override]) -> SweepConfig:
    section = OmegaConf.create({NOT_FOR_ONE_RUN: container.pop(NOT_FOR_ONE_RUN)})
    set_keys(Draft(draft.roots, keys=list(keys)), section)
    try:
        return SweepConfig.model_validate(OmegaConf.to_container(section[NOT_FOR_ONE_RUN], resolve=True))
    except ValidationError as error:
        given = {key.key_or_group for key in keys}
        for entry in error.errors():
            entry["loc"] = (NOT_FOR_ONE_RUN, *entry["loc"])
            draft.problems.append(explain(entry, draft.choices, given))
        raise Refused(_each_once(draft.problems)) from error


def _axes_of_file(draft: Draft, settings: SweepConfig) -> list[Axis]:
    """Return the axes of the sweep section: lists as values, text parsed as on the command line."""
    axes = []
    for key, values in settings.axes.items():
        text = values if isinstance(values, str) else "[]" if isinstance(values, list) else str(values)
        found = sort_overrides([f"{key}={text}"], draft.roots)
        draft.problems += found.problems
        if isinstance(values, list) and not found.problems:
            axes.append(Axis(key, False, tuple(values)))
        elif found.axes:
            axes += _axes(draft, found.axes)
        elif not found.problems:
            axes.append(Axis(key, bool(found.groups), (values,)))
    return axes


def _fold_axis(container: DictConfig, settings: SweepConfig) -> list[Axis]:
    """Return an axis with the folds of a cross-validation, and null for a refit."""
    folds = OmegaConf.select(container, "cv.folds")
    if not isinstance(folds, int):
        return []
    return [Axis("cv.fold", False, (*range(folds), *([None] if settings.refit else [])))]


def _merged(*sources: Sequence[Axis]) -> list[Axis]:
    """Merge axes by key; for equal keys, the first axis is used."""
    found: dict[str, Axis] = {}
    for axis in (axis for axes in sources for axis in axes):
        found.setdefault(axis.key, axis)
    return list(found.values())


def _fill(
    draft: Draft,
    visited: Sequence[Point],
    axes: Sequence[Axis],
    overrides: Sequence[str],
    composed: dict[tuple[Any, ...], DictConfig],
) -> list[TrialConfig]:
    """Make a typed config of each point. `composed` has existing compositions by options of swept groups."""
    groups = [axis.key for axis in axes if axis.is_group]
    templates: dict[tuple[Any, ...], _Template] = {}
    trials = []
    for point in visited:
        options = tuple(point[group] for group in groups)
        if options not in templates:
            chosen = [f"{group}={option}" for group, option in zip(groups, options, strict=True)]
            container = composed.pop(options, None) or _composed(draft, [*draft.groups, *chosen])
            templates[options] = _Template(draft, container)
        keys = {key: value for key, value in point.items() if key not in groups}
        values = templates[options].fill(keys)
        if config := typed(draft, values, [*overrides, *(f"{key}=" for key in keys)]):
            trials.append(TrialConfig(point, config))
    return trials


def _composed(draft: Draft, groups: Sequence[str]) -> DictConfig:
    container = compose_groups(draft, groups)
    del container[NOT_FOR_ONE_RUN]
    set_keys(draft, container)
    return container


class _Template:
    """A composition in which only the swept keys are missing."""

    def __init__(self, draft: Draft, container: DictConfig) -> None:
        self._draft = draft
        self._container = container
        self._linked = bool(_REFERENCE.search(OmegaConf.to_yaml(self._container)))
        self._values = {} if self._linked else resolve(draft, self._container)

    def fill(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """Return plain values with these keys set."""
        if self._linked or any(isinstance(value, str) and "${" in value for value in keys.values()):
            container = copy.deepcopy(self._container)
            for key, value in keys.items():
                OmegaConf.update(container, key, value, merge=False, force_add=True)
            return resolve(self._draft, container)
        values = copy.deepcopy(self._values)
        for key, value in keys.items():
            *sections, name = key.split(".")
            place = values
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value
        return values


def _each_once(problems: Sequence[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
