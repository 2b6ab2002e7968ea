"""Texts by number, in one file; in memory lies only where each of them ends.

A file that is mapped into memory would do as well, but its pages count as this process's own; what is read
piece by piece does not, and peak memory stays where it is however many texts there are.
"""

from array import array
from pathlib import Path
from types import TracebackType


class Texts:
    """A growing list of texts: 8 bytes of memory each, their UTF-8 on disk."""

    def __init__(self, file: Path) -> None:
        """Begin `file` anew."""
        self._out = file.open("wb")
        self._source = file.open("rb")
        self._ends = array("q", [0])

    def __enter__(self) -> "Texts":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()
        self._source.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, text: str) -> None:
        """Add a text; it has the number that `len` had before."""
        raw = text.encode("utf-8")
        self._out.write(raw)
        self._ends.append(self._ends[-1] + len(raw))

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(f"text {number} of {len(self)}")
        start, end = self._ends[number], self._ends[number + 1]
        self._out.flush()
        self._source.seek(start)
        return self._source.read(end - start).decode("utf-8")
