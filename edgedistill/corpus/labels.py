"""From the labels in the files to indices of the corpus' labels.

A label in a file is its text. Where the recipe names the labels, a whole number that is not itself one of these names
is an index into them; where the names come from the data, a number is a name like any other, since the order of names
that were merely found must not give it a meaning.
"""

import re
from collections.abc import Iterable, Mapping

from edgedistill.errors import DataError

Names = list[str | None]


def found_labels(names: Mapping[str, Names]) -> tuple[str, ...]:
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


def indices(names: Names, labels: tuple[str, ...], place: str, *, numbers_are_indices: bool) -> list[int]:
    """Return the index of each label, -1 for a missing one.

    Raises:
        DataError: a label is not among `labels`; the text names the row.
    """
    index_of = {label: index for index, label in enumerate(labels)}
    if numbers_are_indices:
        index_of = {str(index): index for index in range(len(labels))} | index_of
    return [_index(name, index_of, f"row {row} of {place}", labels) for row, name in enumerate(names, start=1)]


def _index(name: str | None, index_of: Mapping[str, int], place: str, labels: Iterable[str]) -> int:
    if name is None:
        return -1
    if name not in index_of:
        choices = ", ".join(repr(label) for label in labels)
        raise DataError(f"{place} has the label {name!r}, which is not among {choices}; mend the row or task.labels")
    return index_of[name]


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(-?\d+)", name)  # texts at even places, whole numbers at odd ones
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
