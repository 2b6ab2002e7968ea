"""What a further row costs the search for duplicates: tens of bytes of memory beside its signature, not thousands."""

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from datasketch import MinHash
from tiny_corpus import every_row, pool_of

from edgedistill.corpus import candidates, stage
from edgedistill.corpus.candidates import PERMUTATIONS, grams
from edgedistill.recipe_sections import DataOptions

FEW, MANY = 100, 300
MOST_BYTES = 400
DATA = DataOptions.model_validate({"train": {"source": "jsonl", "file": "unused.jsonl"}})


def rows(count: int) -> list[tuple[str, int]]:
    rng = random.Random(0)
    return [("".join(rng.choices("abcdefgh ", k=100)), i % 2) for i in range(count)]


def bytes_a_row(search: Callable[[list[tuple[str, int]]], None]) -> float:
    """Return how much higher the peak of Python's and numpy's memory is for each further row."""
    peaks = []
    for count in (10, FEW, MANY):  # the first pays for imports
        given = rows(count)
        tracemalloc.start()
        search(given)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return (peaks[2] - peaks[1]) / (MANY - FEW)


def test_a_further_row_costs_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "AT_ONCE", 64)

    def search(given: list[tuple[str, int]]) -> None:
        with pool_of(given) as pool:
            splits, _, _ = stage._separate(pool, {"train": every_row(pool)}, DATA, tmp_path, labelled=True)
            assert sum(map(len, splits.values())) == len(given)

    assert bytes_a_row(search) < MOST_BYTES


def test_signatures_as_objects_cost_more() -> None:
    def search(given: list[tuple[str, int]]) -> None:
        encoded = ([gram.encode() for gram in grams(text)] for text, _ in given)
        assert len(list(MinHash.generator(encoded, num_perm=PERMUTATIONS, hashfunc=crc32))) == len(given)

    assert bytes_a_row(search) > MOST_BYTES
