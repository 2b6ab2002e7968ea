"""What a report is laid out from: sections of tables and charts, the same for HTML and Markdown.

A cell without a number is a dash that says why; the reasons become numbered notes under the table.
"""

from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from edgedistill.report.units import DASH


@dataclass(frozen=True)
class Cell:
    """One entry of a table."""

    text: str
    detail: str = ""  # smaller, below or behind the text: an interval, a ratio
    why: str = ""  # why there is no number
    tone: str = ""  # good, bad or weak


@dataclass(frozen=True)
class Row:
    """One line of a table; its first cell names it."""

    cells: tuple[Cell, ...]
    emphasised: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns; without column titles it is a list of facts."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: bool = False  # long: closed until asked for
    kind: ClassVar[str] = "table"

    @property
    def notes(self) -> tuple[str, ...]:
        """The reasons of all empty cells, each once, in the order of their first cell."""
        return tuple(dict.fromkeys(cell.why for row in self.rows for cell in row.cells if cell.why))

    def note_of(self, cell: Cell) -> int:
        """Return the number of the note that says why `cell` is empty, from 1; 0 where it is not."""
        return self.notes.index(cell.why) + 1 if cell.why else 0


@dataclass(frozen=True)
class Chart:
    """A drawing with its legend, which stays HTML so that it wraps on a phone."""

    title: str
    reading: str  # one line: how to read it
    svg: Markup
    legend: tuple[tuple[str, str], ...]  # (CSS colour, name)
    kind: ClassVar[str] = "chart"


@dataclass(frozen=True)
class Code:
    """A few lines to copy."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Section:
    """A part of the report, and the stage folders that its numbers come from."""

    anchor: str
    title: str
    lead: str
    charts: tuple[Chart, ...]
    blocks: tuple[Table | Code, ...]
    sources: tuple[str, ...]


def missing(why: str) -> Cell:
    """Return a dash that says why there is no number."""
    return Cell(DASH, why=why)


def row(*cells: Cell | str, emphasised: bool = False) -> Row:
    """Return a row of cells, plain text allowed."""
    return Row(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells), emphasised)


def facts(caption: str, *pairs: tuple[str, Cell | str]) -> Table:
    """Return a table of names and what they are."""
    return Table(caption, (), tuple(row(name, value) for name, value in pairs))
