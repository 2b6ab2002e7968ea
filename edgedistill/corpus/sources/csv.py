"""Comma-separated values with a header line.

Every cell is read as text: what a column holds never depends on what its first rows look like, and a text such as
"null" or a label such as "01" stays what it is. An empty label cell is a missing label; where `separator` says that a
cell holds several labels, it is a row of which none holds.
"""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgedistill.corpus.sources._columns import ColumnOptions, text_and_label
from edgedistill.corpus.sources._file import check_utf8, digest_of, existing, load, pattern

if TYPE_CHECKING:
    import pyarrow as pa


class Options(ColumnOptions):
    """A local .csv or .tsv file."""

    source: Literal["csv"]
    file: str = Field(examples=["../data/reviews.csv"], description="Path, relative to the recipe's file.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="Between two cells; a tab for .tsv.")


def read(options: Options, base: Path, cache: Path) -> "pa.Table":
    """Return the rows, with columns text and label.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not a table, or a column is missing.
    """
    from datasets import Features, Value

    path = existing(base, options.file)
    check_utf8(path)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        header = next(csv.reader(lines, delimiter=options.delimiter), [])
    features = Features({name: Value("string") for name in header})
    given = {"sep": options.delimiter, "keep_default_na": False, "features": features, "encoding": "utf-8-sig"}
    return text_and_label(load(str(path), "csv", cache, data_files=pattern(path), **given), options, str(path))


def digest(options: Options, base: Path) -> str:
    """Return the SHA-256 of the file."""
    return digest_of(base, options.file)
