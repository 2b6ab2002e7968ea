"""Queries, and the documents that they search among: two JSON Lines files. Each query names its document by id."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgedistill.corpus.sources import jsonl
from edgedistill.corpus.sources._file import digest_of
from edgedistill.errors import DataError
from edgedistill.files import sha256_of_text
from edgedistill.section import SourceOptions

if TYPE_CHECKING:
    import pyarrow as pa


class Options(SourceOptions):
    """A set to measure search on; never to learn from."""

    source: Literal["retrieval"]
    queries: str = Field(
        examples=["../data/queries.jsonl"], description="File of queries, each with the id of the document to be found."
    )
    documents: str = Field(examples=["../data/documents.jsonl"], description="File of documents, each with its id.")
    text: str = Field("text", description="Column that holds the text, in both files.")
    id: str = Field("id", description="Column that holds the document's id, in both files.")

    SEARCHED: ClassVar[bool] = True


class _Columns(jsonl.Options):
    HELD: ClassVar[str] = "an id"


def read(options: Options, base: Path, cache: Path) -> "pa.Table":
    """Return documents, then queries, with columns text, label (the document's id) and document (whether it is one).

    Raises:
        DataError: a file is missing, empty, not UTF-8 or not JSON Lines, a column is missing or of the wrong type, or
            a text is empty.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = []
    for file, is_document in ((options.documents, True), (options.queries, False)):
        columns = _Columns(source="jsonl", file=file, text=options.text, label=options.id)
        rows = jsonl.read(columns, base, cache)
        if pa.types.is_list(rows["label"].type):
            listed = f"{base / file}: column {options.id!r} holds {rows['label'].drop_null()[0].as_py()!r}"
            raise DataError(f"{listed}; an id is a text or a whole number, and a query of several takes a row for each")
        blank = pc.index(pc.utf8_trim_whitespace(rows["text"]), "").as_py()
        if blank >= 0:
            raise DataError(f"{base / file}: row {blank + 1} has an empty text, which finds nothing; mend or remove it")
        parts.append(rows.append_column("document", pa.array([is_document] * len(rows), pa.bool_())))
    return pa.concat_tables(parts)


def digest(options: Options, base: Path) -> str:
    """Return one SHA-256 of both files."""
    return sha256_of_text("\n".join(digest_of(base, file) for file in (options.documents, options.queries)))
