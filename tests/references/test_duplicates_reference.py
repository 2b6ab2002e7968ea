"""The corpus' splits against a plain way to the same: one object a row, datasketch's own LSH, one row after another."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from tiny_corpus import pool_of, signed

from edgedistill.corpus import stage
from edgedistill.corpus.candidates import PERMUTATIONS, SEED, bands, buckets, grams
from edgedistill.corpus.duplicates import SLACK, Index
from edgedistill.corpus.pool import normalised
from edgedistill.corpus.split import UNLABELLED, by_importance
from edgedistill.recipe_sections import DataOptions

WORDS = [f"{a}{b}" for a in ("mo", "ti", "ka", "su", "re", "lo", "ni") for b in ("va", "den", "rik", "sol", "mip")]
ROLES = ("train", UNLABELLED, "test", "challenge.news", "challenge.mail")
Sources = Mapping[str, list[tuple[str, int]]]
Found = tuple[dict[str, list[tuple[str, int]]], dict[str, tuple[int, ...]], list[tuple[str, str, int, int]]]


def sources(seed: int) -> Sources:
    """Return texts of five sources: copies, variants, fillings of one template, contradictions, white space."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 14))) for _ in range(150)]
    templates = [f"the parcel with number {rng.choice(WORDS)} has not yet been sent to {{}}" for _ in range(3)]
    texts += [template.format(rng.choice(WORDS)) for template in templates for _ in range(15)]
    texts += [f"{rng.choice(texts)} {rng.choice(WORDS)}" for _ in range(60)] + [" ", "\t", "ﬁn"]
    made: dict[str, list[tuple[str, int]]] = {}
    for role in ROLES:
        drawn = [rng.choice(texts) for _ in range(220)]
        varied = [text.upper() if rng.random() < 0.2 else text for text in drawn]
        labels = [-1 if role == UNLABELLED else rng.choices((0, 1, -1), (9, 1, role == "train"))[0] for _ in drawn]
        made[role] = list(zip(varied, labels, strict=True))
    return made


@dataclass
class Plain:
    """The same, row by row."""

    threshold: float

    def __post_init__(self) -> None:
        self.signatures: dict[str, MinHash] = {}

    def signature(self, key: str) -> MinHash:
        if key not in self.signatures:
            made = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=crc32)
            made.update_batch([gram.encode() for gram in grams(key)])
            self.signatures[key] = made
        return self.signatures[key]

    def near(self, key: str, index: MinHashLSH) -> list[str]:
        own, signature = grams(key), self.signature(key)
        likely = [
            other
            for other in index.query(signature)
            if signature.jaccard(self.signature(other)) >= self.threshold - SLACK
        ]
        return [o for o in likely if len(own & grams(o)) / len(own | grams(o)) >= self.threshold]

    def index(self) -> MinHashLSH:
        return MinHashLSH(num_perm=PERMUTATIONS, params=bands(self.threshold))

    def thinned(self, rows: Iterable[tuple[str, int]]) -> tuple[list[tuple[str, int]], tuple[int, ...]]:
        """Return the rows that stay, and exact, near, conflicting and empty ones that do not."""
        same: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for text, label in rows:
            same[normalised(text)].append((text, label))
        empty = len(same.pop("", []))
        merged, exact, conflicting = [], 0, 0
        for group in same.values():
            if len({label for _, label in group} - {-1}) > 1:
                conflicting += len(group)
            else:
                merged.append(min(group, key=lambda row: (-row[1], row[0])))
                exact += len(group) - 1
        index, kept = self.index(), []
        for text, label in sorted(merged, key=lambda row: (row[1] < 0, rank(row))):
            if not self.near(normalised(text), index):
                index.insert(normalised(text), self.signature(normalised(text)))
                kept.append((text, label))
        return sorted(kept, key=rank), (exact, len(merged) - len(kept), conflicting, empty)

    def separated(self, given: Sources, data: DataOptions) -> Found:
        parts = {role: self.thinned(rows) for role, rows in given.items()}
        splits = {role: rows for role, (rows, _) in parts.items()}
        cut: dict[str, list[tuple[str, int]]] = {"train": [], "validation": [], "calibration": []}
        for text, label in splits["train"]:
            cut[self.share(normalised(text), label, data)].append((text, label))
        splits |= cut
        owner: dict[str, str] = {}
        index = self.index()
        exact: Counter[tuple[str, str]] = Counter()
        near: Counter[tuple[str, str]] = Counter()
        kept: dict[str, list[tuple[str, int]]] = {}
        for split in by_importance(splits):
            kept[split] = []
            for text, label in splits[split]:
                key = normalised(text)
                if key in owner:
                    exact[owner[key], split] += 1
                elif alike := self.near(key, index):
                    near[by_importance(owner[other] for other in alike)[0], split] += 1
                else:
                    index.insert(key, self.signature(key))
                    owner[key] = split
                    kept[split].append((text, label))
        order = by_importance(splits)
        pairs = sorted(exact.keys() | near.keys(), key=lambda pair: [order.index(split) for split in pair])
        removed = {role: counts for role, (_, counts) in parts.items()}
        return kept, removed, [(a, b, exact[a, b], near[a, b]) for a, b in pairs]

    @staticmethod
    def share(key: str, label: int, data: DataOptions) -> str:
        place = int(sha256(f"{data.split.salt}\n{key}".encode()).hexdigest()[:16], 16) / 2**64
        if place < data.split.validation:
            return "validation" if label >= 0 else "train"
        return "calibration" if place < data.split.validation + data.split.calibration else "train"


def rank(row: tuple[str, int]) -> str:
    return sha256(normalised(row[0]).encode()).hexdigest()


def options(threshold: float) -> DataOptions:
    file = {"source": "jsonl", "file": "unused.jsonl"}
    shares = {"validation": 0.2, "calibration": 0.1}
    return DataOptions.model_validate({"train": file, "split": shares, "near_duplicate_similarity": threshold})


def separated(given: Sources, data: DataOptions, folder: Path) -> Found:
    """Return what the stage makes of the same rows."""
    rows = [row for role in given for row in given[role]]
    ends = np.cumsum([0, *(len(given[role]) for role in given)])
    numbers = {role: np.arange(ends[place], ends[place + 1]) for place, role in enumerate(given)}
    with pool_of(rows) as pool:
        splits, thinned, overlaps = stage._separate(pool, numbers, data, folder, labelled=True)
        kept = {name: [(pool.texts[row], int(pool.labels[row])) for row in part] for name, part in splits.items()}
    removed = {
        role: (part.exact_removed, part.near_removed, part.conflicting_removed, part.empty_removed)
        for role, part in thinned.items()
    }
    return kept, removed, [(o.kept_in, o.removed_from, o.exact, o.near) for o in overlaps]


def expected(given: Sources, data: DataOptions) -> Found:
    kept, removed, overlaps = Plain(data.near_duplicate_similarity).separated(given, data)
    pool, train = removed[UNLABELLED], removed["train"]
    removed["train"] = (train[0] + pool[0], train[1] + pool[1], train[2], train[3] + pool[3])
    return kept, removed, overlaps


@pytest.mark.parametrize("threshold", [0.55, 0.8, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_splits_are_those_of_the_plain_way(seed: int, threshold: float, tmp_path: Path) -> None:
    given, data = sources(seed), options(threshold)
    kept, removed, overlaps = separated(given, data, tmp_path)
    assert (kept, removed, overlaps) == expected(given, data)
    assert sum(exact for _, _, exact, _ in overlaps) > 20
    if threshold < 1:
        assert sum(near for _, _, _, near in overlaps) > 20
        assert all(count > 0 for count in removed["train"]), "every way to be dropped occurs"


def test_that_comparison_notices_an_index_that_forgets_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(Index):
        def keep(self, key: int) -> None:
            if key % 3:
                super().keep(key)

    monkeypatch.setattr(stage, "Index", Forgetful)
    given, data = sources(0), options(0.8)
    assert separated(given, data, tmp_path) != expected(given, data)


@pytest.mark.parametrize("threshold", [0.55, 0.8, 1.0])
def test_buckets_are_the_bands_in_which_signatures_agree(threshold: float) -> None:
    with pool_of(sources(2)["train"]) as pool:
        signatures, keys = signed(pool), [pool.key(number) for number in range(len(pool.row_of_key))]
    plain = Plain(threshold)
    assert all(np.array_equal(plain.signature(key).hashvalues, own) for key, own in zip(keys, signatures, strict=True))
    found = buckets(signatures, threshold)
    number, rows = bands(threshold)
    cut = signatures[:, : number * rows].reshape(-1, number, rows)
    agree = (cut[:, None] == cut[None]).all(axis=3)
    shared = (found.of[:, None] == found.of[None]) & (found.of >= 0)
    alone = np.eye(len(keys), dtype=bool)[:, :, None]
    assert np.array_equal(shared & ~alone, agree & ~alone)
    sizes = np.bincount(found.of[found.of >= 0], minlength=len(found.starts) - 1)
    assert np.array_equal(np.diff(found.starts), sizes)
    assert (sizes > 1).all()
