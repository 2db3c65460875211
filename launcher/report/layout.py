"""Parts of a page: sections with text, figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.report.charts import Chart
from launcher.report.contents import Answer


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a table."""

    text: str
    sort: float | None = None
    """The number to sort by; None sorts by text."""
    badge: str | None = None
    """A highlighted word after the text, such as `best`."""
    note: str | None = None
    """Small print after the text."""


MISSING = Cell("–")  # noqa: RUF001 - a dash for an empty field


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows with a caption and column headings."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    numeric: frozenset[int] = frozenset()
    """Indices of right-aligned columns."""
    folded: bool = False
    """Whether the table is collapsed to its caption at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart and the table of its numbers."""

    chart: Chart
    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSection:
    """A part of the page with a heading."""

    anchor: str
    title: str
    text: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    small: bool = False
    """Whether the figures are small, with three in a row."""
    tables: tuple[Table, ...] = ()
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A key figure at the top of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole page."""

    kind: str
    """`run` or `sweep`."""
    name: str
    state: str
    verdict: tuple[str, ...]
    """Sentences that summarize the outcome; the first one is set larger."""
    tiles: tuple[Tile, ...]
    sections: tuple[PageSection, ...]
    place: str

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts in the order of the page."""
        return tuple(figure.chart for section in self.sections for figure in section.figures)


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], *, folded: bool = False
) -> Table:
    """Return a table whose columns with a number to sort by are right-aligned.

    Args:
        caption: Caption of the table.
        head: Headings of the columns.
        rows: Rows of cells.
        folded: Whether the table is collapsed at first.
    """
    numeric = {i for row in rows for i, cell in enumerate(row) if cell.sort is not None}
    return Table(
        caption=caption,
        head=tuple(head),
        rows=[tuple(row) for row in rows],
        numeric=frozenset(numeric),
        folded=folded,
    )
