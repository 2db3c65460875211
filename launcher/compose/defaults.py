"""The defaults of the config classes as plain values, for Hydra's composition to start from."""

from typing import Any, get_args

from pydantic import BaseModel


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section class that a field holds, also of an optional one; None for a single value."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def defaults_of(section: type[BaseModel]) -> dict[str, Any]:
    """The default of every key of a section and of the sections in it; required keys are left out."""
    values: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if field.is_required():
            if inner:
                values[name] = defaults_of(inner)
            continue
        value = field.get_default(call_default_factory=True)
        values[name] = value.model_dump() if isinstance(value, BaseModel) else value
    return values
