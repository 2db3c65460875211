"""The table of data formats."""

import json

from docs.generate.values import table
from train.formats.registry import FORMATS


def section() -> str:
    """Every format with an example row and the part that is trained."""
    rows = [[f"`{entry.name}`", f"`{json.dumps(entry.example)}`", entry.trained] for entry in FORMATS]
    return table(["`data.format`", "a row", "what is trained"], rows)
