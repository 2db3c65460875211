"""Writes the generated documentation, or with `--check` reports the pages that are out of date.

python -m docs.generate [--check]
"""

import argparse
import sys

from docs.generate.pages import FOLDER, stale_pages


def main() -> int:
    """Update the pages; the exit code is 1 if `--check` finds one that is out of date."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description="Generate documentation.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check = parser.parse_args().check
    stale = stale_pages()
    for path, text in stale.items():
        name = path.relative_to(FOLDER.parent)
        if check:
            print(f"{name} is out of date; run: make docs", file=sys.stderr)
        else:
            path.write_text(text)
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
