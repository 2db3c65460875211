"""A short storm; `python -m tests.multiprocess.storm` makes longer ones."""

from pathlib import Path

from tests.multiprocess.driven import finish
from tests.multiprocess.storm import compare, storm, storm_settings


def test_two_random_kills_change_nothing(tmp_path: Path):
    settings = storm_settings(tmp_path, steps=120, ranks=2)
    unbroken = finish(*settings, "name=unbroken")
    run, done = storm((*settings, "name=storm"), kills=2, seed=11)
    assert done
    compare(run, unbroken)
