"""A vector for each text, near those of texts that mean the like.

Judged by search. In a split of queries and documents each query has one document to be found, and is right where that
is among the five most similar ones. In a split of texts alone the teacher says what is to be found: each text's most
similar other one. Gold is a row's number in its split, and the rows without gold are the documents; where every row has
gold, all other rows are searched among.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from edgedistill.section import TaskOptions

FOUND_AMONG = 5
QUERIES_AT_ONCE = 512


class Options(TaskOptions):
    """What the vectors are like; pooling and normalisation are the teacher's."""

    kind: Literal["sentence_embedding"]
    dimensions: int | None = Field(
        None,
        ge=8,
        examples=[128],
        description="Numbers in the student's vectors, taught by the teacher's along their principal directions; "
        "null: as many as the teacher's.",
    )
    truncations: tuple[int, ...] = Field(
        (),
        examples=[[32, 64]],
        description="Shorter lengths that are taught too, so that an app may cut vectors to their first numbers.",
    )
    pooling: Literal["mean", "cls", "max", "mean_sqrt_len_tokens"] | None = Field(
        None, description="How a teacher pools whose folder does not say it; null: as its folder says."
    )

    @field_validator("truncations")
    @classmethod
    def _are_ascending(cls, lengths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if any(length < 1 for length in lengths) or list(lengths) != sorted(set(lengths)):
            raise ValueError(f"{list(lengths)} must be positive and ascending, each once")
        whole = info.data.get("dimensions")
        if whole is not None and lengths and lengths[-1] >= whole:
            raise ValueError(f"{lengths[-1]} is no shorter than the whole vector of {whole} numbers; leave it out")
        return lengths

    METRIC: ClassVar[str] = "recall_at_5"
    PIPELINE_TAG: ClassVar[str] = "sentence-similarity"
    LABELLED: ClassVar[bool] = False
    OUTPUT: ClassVar[str] = "sentence_embedding"
    AGREEMENT: ClassVar[str] = "nearest text among five"
    DIVERGENCE: ClassVar[str] = "1 - cosine"


def gold(labels: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """Return the row to be found for each row, (rows,) int64: the given one, or where none is given the teacher's.

    Args:
        labels: (rows,) int; the row of each query's document, -1 for documents; all -1 in a split of texts alone.
        teacher: (rows, width) float; the teacher's vectors.
    """
    return labels if (labels >= 0).any() else _nearest(teacher, np.zeros_like(labels))


def right(outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return which queries find their row among the five most similar, (rows with gold,) bool.

    Of rows that are exactly as similar as the one to be found, all count as more similar: where every vector is the
    same, nothing is found.

    Args:
        outputs: (rows, width) float; similarity is the cosine.
        gold: (rows,) int; the row to be found, -1 for a document.
    """
    found = [
        (similar >= similar[np.arange(len(wanted)), wanted][:, None]).sum(axis=1) <= FOUND_AMONG
        for similar, wanted, _ in _similarities(outputs, gold)
    ]
    return np.concatenate([np.empty(0, dtype=bool), *found])


def agree(reference: np.ndarray, outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return which queries find the reference's most similar row among their five, (queries,) bool.

    Where no row has gold, every row is a query among all others.
    """
    return right(outputs, _nearest(reference, gold if (gold >= 0).any() else np.zeros_like(gold)))


def divergence(reference: np.ndarray, outputs: np.ndarray) -> float:
    """Return the mean of 1 - cosine over rows; zero exactly where all vectors point the same way."""
    cosines = (unit(reference) * unit(outputs)).sum(axis=1, dtype=np.float64)
    return max(float(1 - cosines.mean()), 0.0)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors at length 1, (rows, width) float32; what has no length stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    return scaled


def _nearest(outputs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return the most similar candidate of each query, (rows,) int64; -1 for a document."""
    found = np.full(len(gold), -1, dtype=np.int64)
    for similar, _, queries in _similarities(outputs, gold):
        found[queries] = similar.argmax(axis=1)
    return found


def _similarities(outputs: np.ndarray, gold: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield cosines of some queries with all rows, (queries, rows), their gold, and their row numbers.

    What is not searched among has -inf: a query itself, and where there are documents, every other query.
    """
    vectors, queries = unit(outputs), np.flatnonzero(gold >= 0)
    documents = gold < 0
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        some = queries[start : start + QUERIES_AT_ONCE]
        similar = vectors[some] @ vectors.T
        if documents.any():
            similar[:, ~documents] = -np.inf
        similar[np.arange(len(some)), some] = -np.inf
        yield similar, gold[some], some
