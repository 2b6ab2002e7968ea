"""Prompts that a teacher is to answer, held against what the splits ask: none of theirs may be among them.

A conversation is not nearly the same text as its own prompt where the answer is long. So a prompt is compared with
prompts: with what each conversation of a split says before any of its answers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from edgedistill.corpus.candidates import buckets, sign
from edgedistill.corpus.duplicates import Index
from edgedistill.corpus.pool import Pool
from edgedistill.corpus.sources.conversations import prompts_in
from edgedistill.corpus.split import UNLABELLED, audit
from edgedistill.corpus.texts import Texts
from edgedistill.progress import bar
from edgedistill.values import Overlap


def asked_nowhere_else(
    pool: Pool, splits: Mapping[str, np.ndarray], threshold: float, progress: Path
) -> tuple[np.ndarray, tuple[Overlap, ...]]:
    """Return the prompts that no split asks, exactly or nearly, and which ones were taken out for that.

    Args:
        pool: holds the rows.
        splits: row numbers by split; the prompts are `unlabelled`, and no two of them are duplicates.
        threshold: Jaccard similarity from which two prompts are one.
        progress: folder for what is needed meanwhile.
    """
    places: dict[str, np.ndarray] = {}
    with Texts(progress / "prompts") as texts:
        for name, rows in splits.items():
            first = len(texts)
            for row in rows:
                for prompt in (pool.texts[row],) if name == UNLABELLED else prompts_in(pool.texts[row]):
                    texts.append(prompt)
            places[name] = np.arange(first, len(texts))
        asked = Pool.of(texts, np.full(len(texts), -1), spoken=True)
        keys = len(asked.row_of_key)
        with bar("comparing prompts", total=keys + len(texts), unit="prompts") as advance:
            signatures = sign(map(asked.key, range(keys)), progress / "prompt_signatures", advance)
            index = Index(threshold, signatures, buckets(signatures, threshold), asked.key)
            kept, overlaps = audit(asked, places, index, advance, places.keys() - {UNLABELLED})
    return splits[UNLABELLED][kept[UNLABELLED] - places[UNLABELLED][0]], overlaps


def summed(overlaps: Iterable[Overlap]) -> tuple[Overlap, ...]:
    """Return one overlap for each pair of splits, in their order of first sight."""
    exact: Counter[tuple[str, str]] = Counter()
    near: Counter[tuple[str, str]] = Counter()
    for each in overlaps:
        pair = (each.kept_in, each.removed_from)
        exact[pair] += each.exact
        near[pair] += each.near
    return tuple(Overlap(kept_in=a, removed_from=b, exact=exact[a, b], near=near[a, b]) for a, b in exact)
