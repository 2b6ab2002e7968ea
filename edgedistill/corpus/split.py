"""Which row serves which purpose, and the proof that no text serves two.

Shares are cut from train by the hash of the text, so a row keeps its split when rows are added, removed or moved.
Duplicates are removed from the whole of train *before* it is cut: then no two of its splits can share a text, and a
text that occurs often does not get more chances to land in test. After the cut, every split is held against every
other, the user's own files included.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable

import numpy as np

from edgedistill.corpus.duplicates import Index
from edgedistill.corpus.pool import Pool
from edgedistill.recipe_sections import SplitOptions
from edgedistill.values import Overlap

UNLABELLED = "unlabelled"
_CUT = ("test", "validation", "calibration")  # in this order on the hash's line from 0 to 1


def by_importance(splits: Iterable[str]) -> list[str]:
    """Return the splits in the order in which they keep a shared text: what measures before what trains."""
    fixed = ["test", "challenge", "validation", "calibration", "train", UNLABELLED]
    return sorted(splits, key=lambda split: (fixed.index(split.partition(".")[0]), split))


def cut(
    pool: Pool, train: np.ndarray, given: Iterable[str], shares: SplitOptions, *, labelled: bool
) -> dict[str, np.ndarray]:
    """Return train, and those of test, validation and calibration that the user has not `given`, cut from it.

    A row without a label cannot measure anything: it is never cut to test or validation.

    Args:
        pool: holds the rows.
        train: (rows,) int64; row numbers.
        given: splits that have a source of their own.
        shares: what to cut.
        labelled: whether the task measures by labels; where it does not, every row can measure.
    """
    wanted = [split for split in _CUT if split not in given]
    pieces = ("train", *wanted)
    piece = np.zeros(len(train), dtype=np.int8)
    for place, row in enumerate(train):
        split = _share_of(pool.key(pool.keys[row]), wanted, shares)
        if not labelled or pool.labels[row] >= 0 or split == "calibration":
            piece[place] = pieces.index(split)
    return {split: train[piece == number] for number, split in enumerate(pieces)}


def _share_of(key: str, wanted: Iterable[str], shares: SplitOptions) -> str:
    # The newline cannot occur in a key, so no salt can imitate a text, and an empty one differs from the key's rank.
    digest = hashlib.sha256(f"{shares.salt}\n{key}".encode()).digest()
    place, end = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for split in wanted:
        end += getattr(shares, split)
        if place < end:
            return split
    return "train"


def audit(
    pool: Pool,
    splits: dict[str, np.ndarray],
    index: Index,
    advance: Callable[[int], None],
    whole: Collection[str] = (),
) -> tuple[dict[str, np.ndarray], tuple[Overlap, ...]]:
    """Return splits that share no text, exactly or nearly, and what had to be taken out for that.

    Args:
        pool: holds the rows.
        splits: numbers of rows without duplicates within any one split.
        index: empty; holds every text that was kept afterwards.
        advance: called with 1 for each row.
        whole: splits that keep every row; what they hold is taken out of those after them alone.
    """
    names = by_importance(splits)
    owner = np.full(len(pool.row_of_key), -1, dtype=np.int32)  # place of the split that holds a key
    kept = dict(splits)
    exact: Counter[tuple[int, int]] = Counter()
    near: Counter[tuple[int, int]] = Counter()
    for place, split in enumerate(names):
        stays = np.zeros(len(splits[split]), dtype=bool)
        for number, key in enumerate(pool.keys[splits[split]]):
            advance(1)
            stays[number] = split in whole
            if owner[key] >= 0:
                if not stays[number]:
                    exact[int(owner[key]), place] += 1
            elif not stays[number] and (alike := index.near(key)):
                near[int(owner[alike].min()), place] += 1
            else:
                index.keep(key)
                owner[key] = place
                stays[number] = True
        kept[split] = splits[split][stays]
    overlaps = tuple(
        Overlap(kept_in=names[a], removed_from=names[b], exact=exact[a, b], near=near[a, b])
        for a, b in sorted(exact.keys() | near.keys())
    )
    return kept, overlaps
