"""What is generated: one line per page and per section."""

from collections.abc import Callable

from docs.generate import config, formats, problems, records

PAGES: dict[str, Callable[[], str]] = {
    "config.md": config.page,
}
"""Whole files in docs/, by name."""

SECTIONS: dict[str, Callable[[], str]] = {
    "formats": formats.section,
    "problems": problems.section,
    "events": records.events,
    "sweep_events": records.sweep_events,
    "result": records.result,
}
"""Parts of pages that are otherwise written by hand, by the name in their markers."""
