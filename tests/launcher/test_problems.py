"""Problem codes: the table, the sources and the documentation agree."""

import ast

import pytest

from launcher.errors import Problem
from launcher.problems import MEANINGS
from tests.test_architecture import SOURCES


def test_every_code_of_the_table_is_used():
    strings = {
        node.value
        for path in SOURCES
        if path.name != "problems.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # `verb.{name}` is put together from an option's name.
    unused = {code for code in MEANINGS if code not in strings and not code.startswith("verb.")}
    assert not unused


def test_an_unknown_code_is_an_error():
    with pytest.raises(ValueError, match=r"unknown problem code 'no\.such'"):
        Problem(code="no.such", field="x", message="x", fix="x")


def test_meanings_are_sentences():
    for code, meaning in MEANINGS.items():
        assert meaning.endswith("."), code
