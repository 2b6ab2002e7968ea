"""JSON Lines: one object per line, such as {"text": "a fine film", "label": "positive"}."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgedistill.corpus.sources._columns import ColumnOptions, text_and_label
from edgedistill.corpus.sources._file import check_utf8, digest_of, existing, load, pattern

if TYPE_CHECKING:
    import pyarrow as pa


class Options(ColumnOptions):
    """A local .jsonl file."""

    source: Literal["jsonl"]
    file: str = Field(examples=["../data/reviews.jsonl"], description="Path, relative to the recipe's file.")


def read(options: Options, base: Path, cache: Path) -> "pa.Table":
    """Return the rows, with columns text and label.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not JSON Lines, or a column is missing or of the wrong type.
    """
    path = existing(base, options.file)
    check_utf8(path)
    rows = load(str(path), "json", cache, lambda: _first_bad_line(path), data_files=pattern(path))
    return text_and_label(rows, options, str(path))


def digest(options: Options, base: Path) -> str:
    """Return the SHA-256 of the file."""
    return digest_of(base, options.file)


def _first_bad_line(path: Path) -> str | None:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line) if line.strip() else {}
            except ValueError as error:
                return f"line {number} is not JSON ({error}); write one object per line"
            if not isinstance(row, dict):
                return f"line {number} holds {line.strip()[:40]!r}; write one object per line"
    return None
