"""Plain text: one text per line, without labels; blank lines are no texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgedistill.corpus.sources._columns import ColumnOptions, text_and_label
from edgedistill.corpus.sources._file import check_utf8, digest_of, existing, load, pattern
from edgedistill.errors import DataError
from edgedistill.section import SourceOptions

if TYPE_CHECKING:
    import pyarrow as pa


class Options(SourceOptions):
    """A local text file."""

    source: Literal["text"]
    file: str = Field(examples=["../data/reviews.txt"], description="Path, relative to the recipe's file.")


def read(options: Options, base: Path, cache: Path) -> "pa.Table":
    """Return the lines, with columns text and label; every label is None.

    Raises:
        DataError: the file is missing, empty, blank or not UTF-8.
    """
    path = existing(base, options.file)
    check_utf8(path)
    lines = load(str(path), "text", cache, data_files=pattern(path))
    table = text_and_label(lines, ColumnOptions(source="text", label=None), str(path))
    written = [bool(line.strip()) for batch in table["text"].chunks for line in batch.to_pylist()]
    if not any(written):
        raise DataError(f"data file {path} holds only blank lines; write one text per line")
    return table if all(written) else table.filter(written)


def digest(options: Options, base: Path) -> str:
    """Return the SHA-256 of the file."""
    return digest_of(base, options.file)
