"""The defaults of the config classes as plain values, on which Hydra composes."""

from typing import Any, get_args

from pydantic import BaseModel


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section class of a field, also of an optional one, or None if it has a single value."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def defaults_of(section: type[BaseModel]) -> dict[str, Any]:
    """Return the defaults of all keys of a section and of its subsections, without required keys."""
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
