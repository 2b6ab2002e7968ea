"""What every source with named columns shares: which one holds the text, and which one the label or the labels."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from edgedistill.errors import DataError
from edgedistill.section import SourceOptions

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


class ColumnOptions(SourceOptions):
    """A table of texts, and perhaps of labels: one for each row, or a list of them."""

    text: str = Field("text", description="Column that holds the text.")
    label: str | None = Field("label", description="Column that holds the label; null where the rows have none.")
    separator: str | None = Field(
        None,
        min_length=1,
        description="Between the labels of one row, such as |, where a cell holds several as one text; an empty cell "
        "says that none holds.",
    )

    HELD: ClassVar[str] = "a label"  # what errors call a value of the second column, and by its last word the key


def text_and_label(table: "Dataset", options: ColumnOptions, place: str) -> "pa.Table":
    """Return the columns text and label, both strings; a label is None where its row has none.

    A whole number or a truth value becomes its text ("1", "true"); an index into class names that the table
    declares becomes the name, and -1, which such tables use for a hidden label, becomes None. Where the column holds
    lists, or texts to be cut at `separator`, the labels are lists of strings. The texts stay in the file that
    `datasets` has mapped.

    Raises:
        DataError: a column is missing, a text is not a text, or a label is neither text nor a whole number.
    """
    import pyarrow as pa

    held = options.HELD.rpartition(" ")[2]
    for key, column in (("text", options.text), (held, options.label)):
        if column is not None and column not in table.column_names:
            cure = "name the right one, or write null if there is none" if key == "label" else "name the right one"
            columns = ", ".join(table.column_names)
            raise DataError(f"{place} has no column {column!r}; its columns: {columns}; {cure} as {key!r}")
    texts = _texts(table, options.text, place)
    if options.label is None:
        labels: Any = pa.nulls(len(table), pa.string())
    elif options.separator is not None:
        labels = _cut(table, options.label, options.separator, place)
    else:
        labels = _labels(table, options.label, place, options.HELD)
    return pa.table({"text": texts, "label": labels})


def _texts(table: "Dataset", column: str, place: str) -> "pa.ChunkedArray | pa.Array":
    """Return the texts as they lie in the file; only where the type does not vouch for them is each looked at."""
    import pyarrow as pa

    texts = table.data[column]
    if pa.types.is_string(texts.type) and not texts.null_count:
        return texts
    for row, text in enumerate(table[column], start=1):
        if not isinstance(text, str):
            raise DataError(f"{place}: row {row}: {column!r} holds {text!r}, not a text; mend or remove the row")
    return pa.array(list(table[column]), pa.string())


def _labels(table: "Dataset", column: str, place: str, held: str) -> "pa.ChunkedArray | pa.Array":
    """Return each row's label as a string; where all are of one plain type, only those that differ are looked at."""
    import pyarrow as pa

    labels, feature = table.data[column], table.features[column]
    several = pa.types.is_list(labels.type) or pa.types.is_large_list(labels.type)
    declared = getattr(getattr(feature, "feature", feature), "names", None)
    name = _label_name if declared is None else partial(_declared_name, declared)
    plain = any(test(labels.type) for test in (pa.types.is_string, pa.types.is_integer, pa.types.is_floating))
    try:
        if several:
            return pa.array([_names(row, name) for row in table[column]], pa.list_(pa.string()))
        if not plain:
            return pa.array([name(label) for label in table[column]], pa.string())
        encoded = labels.dictionary_encode()
        names = pa.array([name(label) for label in encoded.chunk(0).dictionary.to_pylist()], pa.string())
    except ValueError as error:
        raise DataError(f"{place}: column {column!r} holds {error}; {held} is a text or a whole number") from None
    return pa.chunked_array([names.take(chunk.indices) for chunk in encoded.chunks])


def _cut(table: "Dataset", column: str, separator: str, place: str) -> "pa.Array":
    """Return each row's labels, which stand in one text; a missing text is None, an empty one has no labels."""
    import pyarrow as pa

    cells = table[column]
    for row, cell in enumerate(cells, start=1):
        if cell is not None and not isinstance(cell, str):
            raise DataError(
                f"{place}: row {row}: {column!r} holds {cell!r}, which is no text to cut at separator {separator!r}; "
                "leave separator out, or mend the row"
            )
    cut = (None if cell is None else [part.strip() for part in cell.split(separator)] for cell in cells)
    return pa.array(
        [None if parts is None else [part for part in parts if part] for parts in cut], pa.list_(pa.string())
    )


def _names(row: Any, name: Callable[[Any], str | None]) -> list[str] | None:
    """Return the names of one row's labels; None where the row has no list."""
    if row is None:
        return None
    found = [name(label) for label in row]
    if None in found:
        raise ValueError(f"{row!r} with a missing label in it")
    return [label for label in found if label is not None]


def _declared_name(names: Sequence[str], index: int | None) -> str | None:
    return None if index is None or index < 0 else names[index]


def _label_name(label: Any) -> str | None:
    if label is None or label == "":
        return None
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, float) and label.is_integer():  # integers beside a missing value are read as floats
        return str(int(label))
    if isinstance(label, (str, int)):
        return str(label)
    raise ValueError(repr(label))
