"""Which row serves which purpose, and the proof that no text serves two.

Shares are cut from train by the hash of the text, so a row keeps its split when rows are added, removed or moved.
Duplicates are removed from the whole of train *before* it is cut: then no two of its splits can share a text, and a
text that occurs often does not get more chances to land in test. After the cut, every split is held against every
other, the user's own files included.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable

from edgedistill.corpus.duplicates import Index, Row
from edgedistill.recipe_sections import SplitOptions
from edgedistill.values import Overlap

UNLABELLED = "unlabelled"
_CUT = ("test", "validation", "calibration")  # in this order on the hash's line from 0 to 1


def by_importance(splits: Iterable[str]) -> list[str]:
    """Return the splits in the order in which they keep a shared text: what measures before what trains."""
    fixed = ["test", "challenge", "validation", "calibration", "train", UNLABELLED]
    return sorted(splits, key=lambda split: (fixed.index(split.partition(".")[0]), split))


def cut(train: list[Row], given: Iterable[str], shares: SplitOptions) -> dict[str, list[Row]]:
    """Return train, and those of test, validation and calibration that the user has not `given`, cut from it.

    A row without a label cannot measure anything: it is never cut to test or validation.
    """
    wanted = [split for split in _CUT if split not in given]
    pieces: dict[str, list[Row]] = {split: [] for split in ("train", *wanted)}
    for row in train:
        split = _share_of(row, wanted, shares)
        pieces["train" if row.label < 0 and split != "calibration" else split].append(row)
    return pieces


def _share_of(row: Row, wanted: Iterable[str], shares: SplitOptions) -> str:
    # The newline cannot occur in a key, so no salt can imitate a text, and an empty one differs from Row.rank.
    digest = hashlib.sha256(f"{shares.salt}\n{row.key}".encode()).digest()
    place, end = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for split in wanted:
        end += getattr(shares, split)
        if place < end:
            return split
    return "train"


def audit(
    splits: dict[str, list[Row]], index: Index, advance: Callable[[int], None]
) -> tuple[dict[str, list[Row]], tuple[Overlap, ...]]:
    """Return splits that share no text, exactly or nearly, and what had to be taken out for that.

    Args:
        splits: rows without duplicates within any one split.
        index: empty; holds every text that was kept afterwards.
        advance: called with 1 for each row.
    """
    owner: dict[str, str] = {}
    kept: dict[str, list[Row]] = {split: [] for split in splits}
    exact: Counter[tuple[str, str]] = Counter()
    near: Counter[tuple[str, str]] = Counter()
    for split in by_importance(splits):
        for row in splits[split]:
            advance(1)
            if row.key in owner:
                exact[owner[row.key], split] += 1
            elif alike := index.near(row.key):
                near[by_importance(owner[key] for key in alike)[0], split] += 1
            else:
                index.keep(row.key)
                owner[row.key] = split
                kept[split].append(row)
    pairs = sorted(exact.keys() | near.keys(), key=lambda pair: [by_importance(splits).index(split) for split in pair])
    overlaps = tuple(Overlap(kept_in=a, removed_from=b, exact=exact[a, b], near=near[a, b]) for a, b in pairs)
    return kept, overlaps
