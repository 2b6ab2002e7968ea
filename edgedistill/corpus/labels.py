"""From the labels in the files to indices of the corpus' labels.

A label in a file is its text. Where the recipe names the labels, a whole number that is not itself one of these names
is an index into them; where the names come from the data, a number is a name like any other, since the order of names
that were merely found must not give it a meaning.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from edgedistill.errors import DataError


def found_labels(names: Mapping[str, Sequence[str | None]]) -> tuple[str, ...]:
    """Return the labels that the data uses, sorted: those of train, or if it has none, of test and validation.

    Numbers inside a label count as numbers, so "star 2" stands before "star 10".

    Raises:
        DataError: there are fewer than two.
    """
    in_train = set(names["train"]) - {None}
    found = in_train or {name for role in ("test", "validation") for name in names.get(role, []) if name is not None}
    if len(found) < 2:
        only = f"only the label {next(iter(found))!r}" if found else "no labels"
        raise DataError(f"the data has {only}; a classifier needs rows of at least two labels")
    return tuple(sorted((name for name in found if name is not None), key=_natural))


def indices(
    codes: np.ndarray, names: Sequence[str | None], labels: tuple[str, ...], place: str, *, numbers_are_indices: bool
) -> np.ndarray:
    """Return the index of each row's label, (rows,) int32, -1 for a missing one.

    Args:
        codes: (rows,) int; which of `names` each row has.
        names: what the file calls its labels; None for a missing one.
        labels: what the corpus calls them.
        place: said in the error.
        numbers_are_indices: whether a whole number that is no label stands for the label at that place.

    Raises:
        DataError: a label is not among `labels`; the text names the row.
    """
    index_of: dict[str | None, int] = {None: -1}
    if numbers_are_indices:
        index_of.update((str(index), index) for index in range(len(labels)))
    index_of.update((label, index) for index, label in enumerate(labels))
    unknown = [code for code, name in enumerate(names) if name not in index_of]
    if unknown:
        row = int(np.isin(codes, unknown).argmax())
        choices = ", ".join(repr(label) for label in labels)
        raise DataError(
            f"row {row + 1} of {place} has the label {names[codes[row]]!r}, which is not among {choices}; "
            "mend the row or task.labels"
        )
    found: np.ndarray = np.array([index_of[name] for name in names], dtype=np.int32)[codes]
    return found


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(-?\d+)", name)  # texts at even places, whole numbers at odd ones
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
