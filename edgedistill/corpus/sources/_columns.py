"""What every source with named columns shares: which one holds the text, and which one the label."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from edgedistill.errors import DataError
from edgedistill.section import SourceOptions

if TYPE_CHECKING:
    from datasets import Dataset


class ColumnOptions(SourceOptions):
    """A table of texts, and perhaps of labels."""

    text: str = Field("text", description="Column that holds the text.")
    label: str | None = Field("label", description="Column that holds the label; null where the rows have none.")


def text_and_label(table: "Dataset", options: ColumnOptions, place: str) -> "Dataset":
    """Return the columns text and label, both strings; a label is None where its row has none.

    A whole number or a truth value becomes its text ("1", "true"); an index into class names that the table
    declares becomes the name, and -1, which such tables use for a hidden label, becomes None.

    Raises:
        DataError: a column is missing, a text is not a text, or a label is neither text nor a whole number.
    """
    from datasets import Dataset, Features, Value

    for key, column in (("text", options.text), ("label", options.label)):
        if column is not None and column not in table.column_names:
            cure = "name the right one" if key == "text" else "name the right one, or write null if there is none"
            columns = ", ".join(table.column_names)
            raise DataError(f"{place} has no column {column!r}; its columns: {columns}; {cure} as {key!r}")
    texts = list(table[options.text])
    for row, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"{place}: row {row}: {options.text!r} holds {text!r}, not a text; mend or remove the row")
    labels = _label_names(table, options.label, place) if options.label is not None else [None] * len(texts)
    features = Features({"text": Value("string"), "label": Value("string")})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


def _label_names(table: "Dataset", column: str, place: str) -> list[str | None]:
    names = getattr(table.features[column], "names", None)
    if names is not None:
        return [None if index is None or index < 0 else names[index] for index in table[column]]
    try:
        return [_label_name(label) for label in table[column]]
    except ValueError as error:
        raise DataError(f"{place}: column {column!r} holds {error}; a label is a text or a whole number") from None


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
