"""From the ids in a set of queries and documents to row numbers."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgedistill.corpus.labels import Name
from edgedistill.errors import DataError
from edgedistill.tasks.sentence_embedding import FOUND_AMONG


def rows_to_find(codes: np.ndarray, names: Sequence[Name], documents: np.ndarray, place: str) -> np.ndarray:
    """Return the row of each query's document, (rows,) int32; -1 for a document.

    Args:
        codes: (rows,) int; which of `names` each row has.
        names: ids of documents, as the files have them; None for a missing one.
        documents: (rows,) bool; which rows are documents.
        place: said in the error.

    Raises:
        DataError: an id is missing, two documents have the same one, or a query's is no document's.
    """
    ids = [names[code] for code in codes]
    missing = next((row for row, name in enumerate(ids) if name is None), None)
    if missing is not None:
        what, row = _numbered(documents, missing)
        raise DataError(f"{place}: {what} {row} has no id; give it one")
    twice = [name for name, count in Counter(ids[row] for row in np.flatnonzero(documents)).items() if count > 1]
    if twice:
        raise DataError(
            f"{place}: {len(twice)} ids stand at several documents, such as {twice[0]!r}; give each its own"
        )
    row_of = {ids[row]: row for row in np.flatnonzero(documents).tolist()}
    lost = next((row for row in np.flatnonzero(~documents).tolist() if ids[row] not in row_of), None)
    if lost is not None:
        _, row = _numbered(documents, lost)
        raise DataError(f"{place}: query {row} asks for {ids[lost]!r}, and no document has that id; mend or remove it")
    return np.array([-1 if is_one else row_of[name] for name, is_one in zip(ids, documents, strict=True)], np.int32)


def check_searched(split: str, texts: int) -> None:
    """Check that what is searched among is more than what counts as found: else whatever a model says is right.

    Args:
        split: its name.
        texts: that a query is held against.

    Raises:
        DataError: they are too few.
    """
    if texts <= FOUND_AMONG:
        raise DataError(
            f"{split} has {texts} texts to search among, and what is among the {FOUND_AMONG} most similar counts as "
            f"found; give it more than {FOUND_AMONG}, better hundreds"
        )


def _numbered(documents: np.ndarray, row: int) -> tuple[str, int]:
    """Return what a row is, and its number in its file, from 1."""
    what = "document" if documents[row] else "query"
    return what, int((documents[: row + 1] == documents[row]).sum())
