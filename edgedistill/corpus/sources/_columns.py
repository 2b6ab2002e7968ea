"""What every source with named columns shares: which one holds the text, and which one the label."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgedistill.errors import DataError
from edgedistill.section import SourceOptions

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


class ColumnOptions(SourceOptions):
    """A table of texts, and perhaps of labels."""

    text: str = Field("text", description="Column that holds the text.")
    label: str | None = Field("label", description="Column that holds the label; null where the rows have none.")


def text_and_label(table: "Dataset", options: ColumnOptions, place: str) -> "pa.Table":
    """Return the columns text and label, both strings; a label is None where its row has none.

    A whole number or a truth value becomes its text ("1", "true"); an index into class names that the table
    declares becomes the name, and -1, which such tables use for a hidden label, becomes None. The texts stay in
    the file that `datasets` has mapped.

    Raises:
        DataError: a column is missing, a text is not a text, or a label is neither text nor a whole number.
    """
    import pyarrow as pa

    for key, column in (("text", options.text), ("label", options.label)):
        if column is not None and column not in table.column_names:
            cure = "name the right one" if key == "text" else "name the right one, or write null if there is none"
            columns = ", ".join(table.column_names)
            raise DataError(f"{place} has no column {column!r}; its columns: {columns}; {cure} as {key!r}")
    texts = _texts(table, options.text, place)
    labels = pa.nulls(len(table), pa.string()) if options.label is None else _labels(table, options.label, place)
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


def _labels(table: "Dataset", column: str, place: str) -> "pa.ChunkedArray | pa.Array":
    """Return each row's label as a string; where all are of one plain type, only those that differ are looked at."""
    import pyarrow as pa

    labels, declared = table.data[column], getattr(table.features[column], "names", None)
    name = _label_name if declared is None else partial(_declared_name, declared)
    plain = any(test(labels.type) for test in (pa.types.is_string, pa.types.is_integer, pa.types.is_floating))
    try:
        if not plain:
            return pa.array([name(label) for label in table[column]], pa.string())
        encoded = labels.dictionary_encode()
        names = pa.array([name(label) for label in encoded.chunk(0).dictionary.to_pylist()], pa.string())
    except ValueError as error:
        raise DataError(f"{place}: column {column!r} holds {error}; a label is a text or a whole number") from None
    return pa.chunked_array([names.take(chunk.indices) for chunk in encoded.chunks])


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
