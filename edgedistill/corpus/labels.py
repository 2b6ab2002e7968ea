"""From the labels in the files to indices of the corpus' labels, or to sets of them.

A label in a file is its text. Where the recipe names the labels, a whole number that is not itself one of these names
is an index into them; where the names come from the data, a number is a name like any other, since the order of names
that were merely found must not give it a meaning.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgedistill.errors import DataError
from edgedistill.tasks._labels import MOST_AT_ONCE

Name = str | tuple[str, ...] | None
"""What a file calls a row's label, or all of its labels; None for a missing one."""


def found_labels(names: Mapping[str, Sequence[Name]]) -> tuple[str, ...]:
    """Return the labels that the data uses, sorted: those of train, or if it has none, of test and validation.

    Numbers inside a label count as numbers, so "star 2" stands before "star 10".

    Raises:
        DataError: there are fewer than two.
    """
    held_out = [*names.get("test", ()), *names.get("validation", ())]
    found = set(_single(names["train"])) or set(_single(held_out))
    if len(found) < 2:
        only = f"only the label {next(iter(found))!r}" if found else "no labels"
        raise DataError(f"the data has {only}; a classifier needs rows of at least two labels")
    return tuple(sorted(found, key=_natural))


def _single(names: Sequence[Name]) -> Iterator[str]:
    for name in names:
        yield from (name,) if isinstance(name, str) else name or ()


def indices(
    codes: np.ndarray, names: Sequence[Name], labels: tuple[str, ...], place: str, *, numbers_are_indices: bool
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
    index_of = _index_of(labels, numbers_are_indices=numbers_are_indices)
    _check_known(codes, names, index_of, labels, place)
    found: np.ndarray = np.array([-1 if name is None else index_of[str(name)] for name in names], dtype=np.int32)[codes]
    return found


def sets(
    codes: np.ndarray, names: Sequence[Name], labels: tuple[str, ...], place: str, *, numbers_are_indices: bool
) -> np.ndarray:
    """Return the set of each row's labels, (rows,) int64: bit i is label i; -1 where nothing is known.

    Args:
        codes: (rows,) int; which of `names` each row has.
        names: what the file calls the labels of a row, all of them; None where it says nothing.
        labels: what the corpus calls them.
        place: said in the error.
        numbers_are_indices: whether a whole number that is no label stands for the label at that place.

    Raises:
        DataError: a label is not among `labels`, and the text names the row; or `labels` are too many for a set.
    """
    if len(labels) > MOST_AT_ONCE:
        raise DataError(
            f"there are {len(labels)} labels, and a row's are chosen among at most {MOST_AT_ONCE}; "
            "leave out or put together those that hardly any row has"
        )
    index_of = _index_of(labels, numbers_are_indices=numbers_are_indices)
    _check_known(codes, names, index_of, labels, place)
    each = [-1 if name is None else sum(1 << index for index in {index_of[one] for one in name}) for name in names]
    found: np.ndarray = np.array(each, dtype=np.int64)[codes]
    return found


def _index_of(labels: tuple[str, ...], *, numbers_are_indices: bool) -> dict[str, int]:
    numbers = {str(index): index for index in range(len(labels))} if numbers_are_indices else {}
    return numbers | {label: index for index, label in enumerate(labels)}


def _check_known(
    codes: np.ndarray, names: Sequence[Name], index_of: Mapping[str, int], labels: tuple[str, ...], place: str
) -> None:
    """Check that every label of a file is one of the corpus'; the error names the first row that has another."""
    unknown = {code: one for code, name in enumerate(names) for one in _single([name]) if one not in index_of}
    if unknown:
        row = int(np.isin(codes, list(unknown)).argmax())
        choices = ", ".join(repr(label) for label in labels)
        raise DataError(
            f"row {row + 1} of {place} has the label {unknown[codes[row]]!r}, which is not among {choices}; "
            "mend the row or task.labels"
        )


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(-?\d+)", name)  # texts at even places, whole numbers at odd ones
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
