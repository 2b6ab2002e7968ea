"""Which texts may be nearly the same: MinHash signatures, and the bands in which they agree.

Texts that agree in a band fall into one bucket. With `bands` as few as still find 99.9 % of the pairs that lie exactly
at the threshold, most texts share no bucket with any other, and are never compared.

In memory lies one number per text and band; the signatures, four times as large, lie in a file that is mapped.

Source: Broder 1997, "On the resemblance and containment of documents", section 3 (shingles, MinHash); Leskovec,
Rajaraman, Ullman 2014, "Mining of Massive Datasets", section 3.4 (banding).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np

GRAM = 5
PERMUTATIONS = 64
RECALL = 0.999
SEED = 1
AT_ONCE = 8192
_MULTIPLIERS = np.random.default_rng(SEED).integers(1 << 63, size=PERMUTATIONS, dtype=np.uint64) * 2 + 1


@dataclass(frozen=True)
class Buckets:
    """Which texts agree in which band; a bucket of a single text is none."""

    of: np.ndarray  # (texts, bands) int32; -1 where the text agrees with no other
    starts: np.ndarray  # (buckets + 1,) int64; the running sum of how many texts each bucket holds


def grams(key: str) -> set[str]:
    """Return the 5-grams of a normalised text; a shorter text is its own only gram."""
    return {key[start : start + GRAM] for start in range(max(1, len(key) - GRAM + 1))}


def sign(keys: Iterable[str], file: Path, advance: Callable[[int], None]) -> np.ndarray:
    """Write the MinHash signatures of normalised texts to `file`, and map them: (texts, PERMUTATIONS) uint32."""
    from datasketch import MinHash

    encoded = ([gram.encode("utf-8") for gram in grams(key)] for key in keys)
    made = MinHash.generator(encoded, num_perm=PERMUTATIONS, seed=SEED, hashfunc=crc32)
    with file.open("wb") as out:
        while batch := [signature.hashvalues for signature in islice(made, AT_ONCE)]:
            np.stack(batch).astype(np.uint32).tofile(out)
            advance(len(batch))
    return np.memmap(file, dtype=np.uint32, mode="r").reshape(-1, PERMUTATIONS)


def bands(threshold: float) -> tuple[int, int]:
    """Return bands and rows per band: the most selective that find RECALL of the pairs at the threshold.

    Two texts of similarity s share a band of r rows with probability s^r, so b bands miss them with (1 - s^r)^b.
    """
    for rows in range(PERMUTATIONS // 4, 1, -1):
        if 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL:
            return PERMUTATIONS // rows, rows
    return PERMUTATIONS, 1


def buckets(signatures: np.ndarray, threshold: float) -> Buckets:
    """Return the buckets of signatures, (texts, PERMUTATIONS) uint32, band by band."""
    number, rows = bands(threshold)
    of = np.empty((len(signatures), number), dtype=np.int32)
    sizes = [np.zeros(1, dtype=np.int64)]
    buckets_before = 0
    for band in range(number):
        hashes = np.concatenate([*_hashes(signatures, slice(band * rows, (band + 1) * rows))])
        _, bucket, size = np.unique(hashes, return_inverse=True, return_counts=True)
        shared = size > 1
        of[:, band] = np.where(shared, np.cumsum(shared) - 1 + buckets_before, -1)[bucket]
        sizes.append(size[shared])
        buckets_before += len(sizes[-1])
    return Buckets(of, np.concatenate(sizes).cumsum())


def _hashes(signatures: np.ndarray, columns: slice) -> Iterator[np.ndarray]:
    """Yield 64 bits for each text's band; two bands with the same bits are only compared once more in vain."""
    for start in range(0, len(signatures), AT_ONCE):
        band = signatures[start : start + AT_ONCE, columns].astype(np.uint64)
        yield (band * _MULTIPLIERS[: band.shape[1]]).sum(axis=1, dtype=np.uint64)
