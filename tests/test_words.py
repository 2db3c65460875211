"""Plain words: phrases that make a message hard to read stay out of texts, docstrings and comments."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INSTEAD = {
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"said|told": "printed, recorded, reported, requested",
    r"whatever": "name the things",
    r"without a word": "without reporting an error",
    r"says? nothing (to|on|of|without)": "has no effect",
    r"(?<!there )is no (key|group|option|override|pattern|axis|file)": "unknown X, invalid X, no such X",
    r"in (the )?place of": "instead of",
    r"what becomes? of|what became of|whatever became": "name the result",
    r"knows? nothing": "has no record of",
    r"pretended": "simulated",
    r"for nothing": "wasted",
    r"goes by the name": "is called",
    r"Likewise\.": "a sentence with its subject",
}
"""Each phrase with what a reader understands at first reading."""
PHRASES = re.compile(rf"\b({'|'.join(INSTEAD)})(?!\w)", re.IGNORECASE)


def texts() -> list[Path]:
    """Everything that a user reads: sources with their docstrings and comments, configs, documents."""
    code = chain.from_iterable((ROOT / name).rglob("*.py") for name in ("launcher", "slurm", "train"))
    configs = (ROOT / "conf").rglob("*.yaml")
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    return sorted([*code, *configs, *documents])


def passages(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of each passage: strings and comments of a source, lines of any other file."""
    text = path.read_text()
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def found_in(path: Path) -> list[str]:
    """Where which phrase stands."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {match[0]!r}"
        for line, text in sorted(passages(path))
        for match in PHRASES.finditer(" ".join(text.split()))
    ]


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_are_in_plain_words(path: Path):
    assert not found_in(path), "write it as PyTorch or uv would; see INSTEAD in this file"


def test_the_phrases_are_found_in_code_and_in_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    source, page = tmp_path / "module.py", tmp_path / "page.md"
    source.write_text('"""It starts\n    anew."""\nsaid = 1  # mend it\nfix = f"{said} is no key"\n')
    page.write_text("The process ended\nwithout a word.\n")
    assert [line.split(": ")[1] for line in found_in(source)] == ["'anew'", "'mend'", "'is no key'"]
    assert found_in(page) == ["page.md:2: 'without a word'"]
