"""Pages that have generated content: what each should contain, and which files are out of date."""

import re
from pathlib import Path

from docs.generate.contents import PAGES, SECTIONS

FOLDER = Path(__file__).resolve().parent.parent
_SECTION = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MARK = "<!-- generated: "


def stale_pages(folder: Path = FOLDER) -> dict[Path, str]:
    """The pages whose content is out of date, each with the content that it should have.

    Raises:
        ValueError: A page has an unknown section, or a section without an end.
    """
    wanted = {folder / name: page() for name, page in PAGES.items()}
    for path in sorted(folder.glob("*.md")):
        if path not in wanted and _MARK in (text := path.read_text()):
            wanted[path] = filled(path.name, text)
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text() != text}


def filled(name: str, text: str) -> str:
    """The text of a page with the content of each generated section replaced.

    Raises:
        ValueError: A section is unknown, or has no end.
    """

    def replace(match: re.Match[str]) -> str:
        start, section, end = match.groups()
        if section not in SECTIONS or _MARK in match[0][len(start) :]:
            raise ValueError(f"docs/{name}: unknown section {section!r}, or no <!-- end --> after it")
        return f"{start}\n{SECTIONS[section]().strip()}\n\n{end}"

    text, count = _SECTION.subn(replace, text)
    if count != text.count(_MARK):
        raise ValueError(f"docs/{name}: a generated section has no <!-- end -->")
    return text
