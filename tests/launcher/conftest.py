"""What the tests of the launcher share."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture
def umask() -> Iterator[None]:
    """The umask of this process as it was before: commands adopt that of a run directory."""
    before = os.umask(0o022)
    yield
    os.umask(before)
