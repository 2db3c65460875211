"""What a page is made of: sections of text, figures and tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.report.charts import Chart
from launcher.report.contents import Answer


@dataclass(frozen=True, slots=True)
class Cell:
    """One field of a table."""

    text: str
    sort: float | None = None
    """What it is sorted by, if it is a number."""
    badge: str | None = None
    """A word that marks it."""
    note: str | None = None
    """Set smaller, after the text."""


MISSING = Cell("–")  # noqa: RUF001 - the dash that a table has for nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under a head."""

    caption: str
    head: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    numeric: frozenset[int] = frozenset()
    """Columns that are set to the right."""
    folded: bool = False
    """Whether only the caption is seen at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart, and the numbers in it."""

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
    """Whether three figures fit into a row."""
    tables: tuple[Table, ...] = ()
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A number that one looks for first."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All of it."""

    kind: str
    """`run` or `sweep`."""
    name: str
    state: str
    verdict: tuple[str, ...]
    """The answer in words; the first sentence stands out."""
    tiles: tuple[Tile, ...]
    sections: tuple[PageSection, ...]
    place: str

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts, in order."""
        return tuple(figure.chart for section in self.sections for figure in section.figures)


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[Cell]], *, folded: bool = False
) -> Table:
    """A table; columns that hold a number to sort by are numeric."""
    numeric = {i for row in rows for i, cell in enumerate(row) if cell.sort is not None}
    return Table(
        caption=caption,
        head=tuple(head),
        rows=[tuple(row) for row in rows],
        numeric=frozenset(numeric),
        folded=folded,
    )
