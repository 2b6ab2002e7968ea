"""Apache Parquet, the columnar format that most data sets are shipped in."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgedistill.corpus.sources._columns import ColumnOptions, text_and_label
from edgedistill.corpus.sources._file import digest_of, existing, load, pattern

if TYPE_CHECKING:
    import pyarrow as pa


class Options(ColumnOptions):
    """A local .parquet file."""

    source: Literal["parquet"]
    file: str = Field(examples=["../data/reviews.parquet"], description="Path, relative to the recipe's file.")


def read(options: Options, base: Path, cache: Path) -> "pa.Table":
    """Return the rows, with columns text and label.

    Raises:
        DataError: the file is missing, empty or not parquet, or a column is missing or of the wrong type.
    """
    path = existing(base, options.file)
    # Without a batch size, `datasets` asks the first row group for one, and trips over a table without rows.
    rows = load(str(path), "parquet", cache, data_files=pattern(path), batch_size=10_000)
    return text_and_label(rows, options, str(path))


def digest(options: Options, base: Path) -> str:
    """Return the SHA-256 of the file."""
    return digest_of(base, options.file)
