"""The corpus stage: from the recipe's data section to disjoint splits on disk.

Read every source, index the labels, drop duplicates within each source, cut what the user has not given from train,
audit all splits against each other, let the unlabelled texts join train, and write. Rows that were dropped before the
cut are counted at train.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edgedistill import registry
from edgedistill.corpus.duplicates import (
    GRAM,
    PERMUTATIONS,
    Index,
    Row,
    Thinned,
    bands,
    merge_exact,
    signatures,
    thin_near,
)
from edgedistill.corpus.labels import Names, found_labels, indices
from edgedistill.corpus.split import UNLABELLED, audit, by_importance, cut
from edgedistill.errors import DataError
from edgedistill.files import sha256_of, sha256_of_text, write_atomic
from edgedistill.progress import bar
from edgedistill.recipe_sections import DataOptions
from edgedistill.section import SourceOptions
from edgedistill.values import Corpus, Overlap, Split

FEWEST_ROWS = 8
"""Of train, validation and test: below this, not even a majority can be told from chance."""


def digests(data: DataOptions, base: Path) -> dict[str, str]:
    """Return the content hash of each source (or its id and revision), by role; reads files, parses nothing.

    Args:
        data: the recipe's data section.
        base: the recipe's folder, from which file names count.

    Raises:
        DataError: a file is missing or empty.
    """
    return {role: _module(source).digest(source, base) for role, source in _sources(data).items()}


def collect(data: DataOptions, labels: tuple[str, ...] | None, base: Path, folder: Path) -> Corpus:
    """Write one parquet file per split into `folder`, and return what they hold.

    Args:
        data: the recipe's data section.
        labels: in the order of the model's logits; None takes those of the data, sorted.
        base: the recipe's folder, from which file names count.
        folder: where the splits' files go.

    Raises:
        DataError: a source cannot be read, a label is unknown or missing where something is measured, or a split has
            too few rows or only one class.
    """
    found, pools = _read(data, labels, base, folder / "progress" / "datasets")
    _check_gold(pools)
    splits, thinned, overlaps = _separate(pools, data)
    splits["train"] = sorted(splits["train"] + splits.pop(UNLABELLED, []), key=lambda row: row.rank)
    nothing = Thinned([])
    _check_rows(splits, {name: thinned.get(name, thinned["train"]) for name in splits}, found)
    return Corpus(
        labels=found,
        splits={name: _write(rows, thinned.get(name, nothing), found, name, folder) for name, rows in splits.items()},
        overlaps=overlaps,
        near_duplicate_rule=_rule(data.near_duplicate_similarity),
        sources=digests(data, base),
    )


def _sources(data: DataOptions) -> dict[str, SourceOptions]:
    """Return what the recipe names, by role; what measures comes first."""
    roles = ("train", UNLABELLED, "validation", "calibration", "test")
    named = {role: getattr(data, role) for role in roles if getattr(data, role) is not None}
    named |= {f"challenge.{name}": source for name, source in data.challenge.items()}
    return {role: named[role] for role in by_importance(named)}


def _module(source: SourceOptions) -> Any:
    return registry.load("edgedistill.corpus.sources", source.source)


def _read(
    data: DataOptions, labels: tuple[str, ...] | None, base: Path, cache: Path
) -> tuple[tuple[str, ...], dict[str, list[Row]]]:
    """Return the labels, and each role's rows as they stand in their source."""
    texts: dict[str, list[str]] = {}
    names: dict[str, Names] = {}
    for role, source in _sources(data).items():
        if role == UNLABELLED and "label" in type(source).model_fields:
            source = source.model_copy(update={"label": None})
        table = _module(source).read(source, base, cache)
        texts[role], names[role] = list(table["text"]), list(table["label"])
    shutil.rmtree(cache, ignore_errors=True)
    found = labels or found_labels(names)
    pools = {}
    for role in texts:
        label_indices = indices(names[role], found, role, numbers_are_indices=labels is not None)
        pools[role] = [Row.of(text, label) for text, label in zip(texts[role], label_indices, strict=True)]
    return found, pools


def _check_gold(pools: Mapping[str, list[Row]]) -> None:
    """Check that whatever measures has gold labels."""
    for role, rows in pools.items():
        if role.partition(".")[0] in ("test", "validation", "challenge"):
            missing = [number for number, row in enumerate(rows, start=1) if row.label < 0]
            if missing:
                raise DataError(
                    f"{role} has {len(missing)} rows without a label (the first is row {missing[0]}); "
                    "quality is measured on them: label or remove them"
                )
    needed = [role for role in ("test", "validation") if role not in pools]
    if needed and all(row.label < 0 for row in pools["train"]):
        raise DataError(
            f"train has no labels, so {' and '.join(needed)} cannot be cut from it and nothing could be measured; "
            f"name labelled files as {' and '.join(f'data.{role}' for role in needed)}"
        )


def _separate(
    pools: Mapping[str, list[Row]], data: DataOptions
) -> tuple[dict[str, list[Row]], dict[str, Thinned], tuple[Overlap, ...]]:
    """Return disjoint splits, what was dropped within each source, and what was taken out between splits."""
    merged = {role: merge_exact(rows) for role, rows in pools.items()}
    keys = [row.key for thinned in merged.values() for row in thinned.rows]
    threshold = data.near_duplicate_similarity
    with bar("looking for duplicates", total=3 * len(keys), unit="texts") as advance:
        signed = signatures(keys, advance)
        thinned = {role: thin_near(part, Index(threshold, signed), advance) for role, part in merged.items()}
        splits = {role: part.rows for role, part in thinned.items()}
        splits |= cut(splits["train"], splits.keys(), data.split)
        splits, overlaps = audit(splits, Index(threshold, signed), advance)
    if UNLABELLED in thinned:
        train, pool = thinned["train"], thinned[UNLABELLED]
        thinned["train"] = Thinned(
            train.rows,
            exact_removed=train.exact_removed + pool.exact_removed,
            near_removed=train.near_removed + pool.near_removed,
            conflicting_removed=train.conflicting_removed,
            empty_removed=train.empty_removed + pool.empty_removed,
        )
    return splits, thinned, overlaps


def _check_rows(splits: Mapping[str, list[Row]], thinned: Mapping[str, Thinned], labels: tuple[str, ...]) -> None:
    """Check that every split is large enough for its purpose.

    Args:
        splits: what is left.
        thinned: split -> what was removed from the source that it comes from.
        labels: class names.
    """
    for split, rows in splits.items():
        fewest = FEWEST_ROWS if split in ("train", "validation", "test") else 1
        if len(rows) < fewest:
            raise DataError(
                f"{split} has {len(rows)} rows left and needs {fewest}; of its source {_told(thinned[split])}; "
                f"give more rows, a file of its own as data.{split}, or a larger share in data.split"
            )
        used = {row.label for row in rows} - {-1}
        if split in ("train", "test") and len(used) == 1:
            raise DataError(f"{split} has only the label {labels[used.pop()]!r}; it needs rows of at least two labels")


def _told(thinned: Thinned) -> str:
    return (
        f"{thinned.exact_removed} exact and {thinned.near_removed} near duplicates, {thinned.conflicting_removed} rows "
        f"with contradicting labels and {thinned.empty_removed} empty texts were removed"
    )


def _write(rows: list[Row], thinned: Thinned, labels: tuple[str, ...], split: str, folder: Path) -> Split:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "text": pa.array([row.text for row in rows], pa.string()),
        "label": pa.array([row.label for row in rows], pa.int64()),
        "row_hash": pa.array([sha256_of_text(row.text)[:16] for row in rows], pa.string()),
    }
    encoded = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), encoded)
    file = PurePosixPath(f"{split}.parquet")
    write_atomic(folder / file, encoded.getvalue().to_pybytes())
    counts = {label: sum(row.label == index for row in rows) for index, label in enumerate(labels)}
    return Split(
        file=file,
        rows=len(rows),
        labelled_rows=sum(counts.values()),
        label_counts=counts,
        exact_duplicates_removed=thinned.exact_removed,
        near_duplicates_removed=thinned.near_removed,
        conflicting_rows_removed=thinned.conflicting_removed,
        empty_rows_removed=thinned.empty_removed,
        sha256=sha256_of(folder / file),
    )


def _rule(threshold: float) -> str:
    number, rows = bands(threshold)
    found = 1 - (1 - threshold**rows) ** number
    return (
        f"Jaccard similarity of character {GRAM}-gram sets of at least {threshold:g}, after NFKC, casefolding and "
        f"collapsing white space; candidates from MinHash ({PERMUTATIONS} permutations, {number} bands of {rows}, "
        f"which find {100 * min(found, 0.9999):.2f} % of the pairs at the threshold), each verified exactly"
    )
