"""Rules about cross-validation."""

from collections.abc import Iterator

from launcher.config import RunConfig
from launcher.errors import Problem
from launcher.planning.facts.machine import Facts
from train.config import CrossValidationConfig


def folds_agree(config: RunConfig, _facts: Facts) -> Iterator[Problem]:
    """Check that no key is set that needs `cv.folds`, and that `cv.fold` is less than `cv.folds`."""
    cv = config.cv
    if cv.folds is None:
        given, defaults = cv.model_dump(), CrossValidationConfig().model_dump()
        for name in (name for name in given if given[name] != defaults[name]):
            yield Problem(
                code="cv.folds",
                field=f"cv.{name}",
                message=f"cv.{name}={given[name]!r} has no effect without cv.folds",
                fix=f"set cv.folds, such as cv.folds=5, or remove cv.{name}",
            )
    elif cv.fold is not None and cv.fold >= cv.folds:
        yield Problem(
            code="cv.fold",
            field="cv.fold",
            message=f"invalid cv.fold={cv.fold}: with cv.folds={cv.folds}, folds are 0 to {cv.folds - 1}",
            fix=f"set cv.fold={cv.folds - 1} or less, or cv.fold=null to train on all rows",
        )
