"""The generated parts of the documentation are up to date, and describe every key."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from docs.generate import pages
from docs.generate.config import Key, docstring_of, root_keys, section_keys
from docs.generate.values import allowed, shown, table
from launcher.compose.defaults import section_of
from launcher.config import CommandConfig
from slurm.config import SlurmConfig
from train.config import FilePath, TrainConfig

MARKED = "# Page\n\n<!-- generated: kinds -->\nold\n<!-- end -->\n\nBy hand.\n"


def test_generated_pages_are_up_to_date():
    stale = [f"docs/{path.name}" for path in pages.stale_pages()]
    assert not stale, f"{', '.join(stale)}: out of date, run: make docs"


def every_key() -> list[Key]:
    sections = [(name, section_of(field.annotation)) for name, field in CommandConfig.model_fields.items()]
    inside = [key for name, kind in sections if kind for key in section_keys(kind, f"{name}.")]
    return root_keys() + inside


def test_every_key_and_section_has_a_description():
    assert len(every_key()) > 90
    assert not [key.name for key in every_key() if not key.meaning.endswith(".")]
    for field in CommandConfig.model_fields.values():
        if section := section_of(field.annotation):
            assert section.__doc__


def test_the_description_of_an_inherited_key_is_found():
    assert docstring_of(CommandConfig, "name").startswith("Name of the run")
    assert docstring_of(CommandConfig, "access").startswith("Who may read")


@pytest.mark.parametrize(
    ("section", "name", "text"),
    [
        (TrainConfig, "max_steps", "integer > 0 or `null`"),
        (TrainConfig, "epochs", "number > 0 and ≤ 100000 or `null`"),
        (TrainConfig, "precision", "`bf16`, `fp16` or `fp32`"),
        (TrainConfig, "trace", "`true` or `false`"),
        (TrainConfig, "profile_steps", "list of 2, each integer > 0 or `null`"),
        (SlurmConfig, "account", "text (letters, digits, _ . -; 100 characters at most) or `null`"),
        (SlurmConfig, "variables", "mapping of names to text"),
        (SlurmConfig, "setup", "list, each text"),
    ],
)
def test_types_are_written_in_words(section: type[BaseModel], name: str, text: str):
    [key] = section_keys(section, "", only=name)
    assert key.allowed == text


def test_values_are_written_as_on_the_command_line():
    assert allowed(FilePath | None) == "path or `null`"
    values: tuple[object, ...] = (None, True, 2e-5, 16, "a", [], {"a": 1})
    assert [shown(value) for value in values] == [
        "null",
        "true",
        "2e-05",
        "16",
        "a",
        "[]",
        "{a: 1}",
    ]
    assert table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |\n"


def test_sections_of_pages_written_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "PAGES", {})
    monkeypatch.setattr(pages, "SECTIONS", {"kinds": lambda: "| new |\n"})
    (tmp_path / "page.md").write_text(MARKED)
    (tmp_path / "other.md").write_text("No sections.\n")
    [(path, text)] = pages.stale_pages(tmp_path).items()
    assert text == "# Page\n\n<!-- generated: kinds -->\n\n| new |\n\n<!-- end -->\n\nBy hand.\n"
    path.write_text(text)
    assert not pages.stale_pages(tmp_path)


@pytest.mark.parametrize("text", [MARKED.replace("kinds", "kidns"), MARKED.replace("<!-- end -->", "")])
def test_a_wrong_marker_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pages, "SECTIONS", {"kinds": lambda: ""})
    with pytest.raises(ValueError, match=re.escape("docs/page.md")):
        pages.filled("page.md", text)
