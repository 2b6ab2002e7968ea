"""What every source with named columns shares: which one holds the text, and which one the label."""

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
    texts = table.data[options.text]
    if not pa.types.is_string(texts.type) or texts.null_count:
        row = texts.is_null().index(True).as_py() if pa.types.is_string(texts.type) else 0
        text = texts[row].as_py()
        raise DataError(f"{place}: row {row + 1}: {options.text!r} holds {text!r}, not a text; mend or remove the row")
    if options.label is None:
        labels = pa.nulls(len(texts), pa.string())
    else:
        labels = _label_names(table.data[options.label], table.features[options.label], options.label, place)
    return pa.table({"text": texts, "label": labels})


def _label_names(labels: "pa.ChunkedArray", feature: Any, column: str, place: str) -> "pa.ChunkedArray":
    """Return each row's label as a string; only the few that differ are looked at one by one."""
    import pyarrow as pa

    if pa.types.is_nested(labels.type):
        raise _no_label(column, place, next(repr(label.as_py()) for label in labels))
    encoded = labels.dictionary_encode()
    known = encoded.chunk(0).dictionary.to_pylist()
    declared = getattr(feature, "names", None)
    try:
        names = [_label_name(label) if declared is None else _declared_name(label, declared) for label in known]
    except ValueError as error:
        raise _no_label(column, place, str(error)) from None
    looked_up = pa.array(names, pa.string())
    return pa.chunked_array([looked_up.take(chunk.indices) for chunk in encoded.chunks], pa.string())


def _no_label(column: str, place: str, what: str) -> DataError:
    return DataError(f"{place}: column {column!r} holds {what}; a label is a text or a whole number")


def _declared_name(index: int, declared: list[str]) -> str | None:
    return None if index < 0 else declared[index]


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
