"""A data set on the Hugging Face hub, at one revision; read without running any code of the repository."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgedistill.corpus.sources._columns import ColumnOptions, text_and_label
from edgedistill.corpus.sources._file import load
from edgedistill.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


class Options(ColumnOptions):
    """A data set by its id, such as org/name."""

    source: Literal["hub"]
    dataset: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", examples=["org/name"], description="Hub id of the data set.")
    revision: str = Field(
        min_length=1, examples=["v1.0"], description="Commit hash or tag: a build must name the very rows it used."
    )
    config: str | None = Field(None, description="Configuration, where the data set has several.")
    split: str = Field("train", description="Split of the data set, also in slices such as train[:10%].")


def read(options: Options, base: Path, cache: Path) -> "pa.Table":
    """Return the rows, with columns text and label; `base` has no meaning here.

    Raises:
        DataError: the data set cannot be fetched, or a column is missing or of the wrong type.
    """
    place = f"hub data set {digest(options, base)}"
    if Path(options.dataset).exists():
        raise DataError(f"{place} is shadowed by a local folder of that name; build from another working directory")
    chosen = {"name": options.config, "split": options.split, "revision": options.revision}
    return text_and_label(load(place, options.dataset, cache, lambda: None, **chosen), options, place)


def digest(options: Options, base: Path) -> str:
    """Return id@revision, which is all that decides the rows besides the options themselves."""
    return f"{options.dataset}@{options.revision}"
