"""The corpus stage: from the recipe's data section to disjoint splits on disk.

Read every source, index the labels, drop duplicates within each source, cut what the user has not given from train,
audit all splits against each other, let the unlabelled texts join train, and write. Prompts without answers do not join
train: they stay apart, until a teacher has answered. Rows that were dropped before the
cut are counted at train.

Texts stay on disk, and a row is its number: about 200 bytes of memory each, whatever its length.
"""

import shutil
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill import registry
from edgedistill.corpus.candidates import GRAM, PERMUTATIONS, bands, buckets, sign
from edgedistill.corpus.duplicates import Index, Thinned, merge_exact, thin_near
from edgedistill.corpus.labels import Name, found_labels, indices, sets
from edgedistill.corpus.pool import Pool
from edgedistill.corpus.prompts import asked_nowhere_else, summed
from edgedistill.corpus.retrieval import check_searched, rows_to_find
from edgedistill.corpus.split import UNLABELLED, audit, by_importance, cut
from edgedistill.corpus.texts import Texts
from edgedistill.corpus.write import write
from edgedistill.errors import DataError
from edgedistill.progress import bar
from edgedistill.recipe_sections import DataOptions
from edgedistill.section import SourceOptions
from edgedistill.values import Corpus, Overlap

FEWEST_ROWS = 8
"""Of train, validation and test: below this, not even a majority can be told from chance."""
ROWS_AT_ONCE = 8192


def digests(data: DataOptions, base: Path) -> dict[str, str]:
    """Return the content hash of each source (or its id and revision), by role; reads files, parses nothing.

    Args:
        data: the recipe's data section.
        base: the recipe's folder, from which file names count.

    Raises:
        DataError: a file is missing or empty.
    """
    return {role: _module(source).digest(source, base) for role, source in _sources(data).items()}


def collect(
    data: DataOptions, labels: tuple[str, ...] | None, base: Path, folder: Path, *, several: bool = False
) -> Corpus:
    """Write one parquet file per split into `folder`, and return what they hold.

    Args:
        data: the recipe's data section.
        labels: in the order of the model's logits; None takes those of the data, sorted; empty for a task without
            labels, which leaves out whatever the files have.
        base: the recipe's folder, from which file names count.
        folder: where the splits' files go.
        several: whether several labels may hold of a row, or none.

    Raises:
        DataError: a source cannot be read, a label is unknown or missing where something is measured, or a split has
            too few rows or only one class.
    """
    progress = folder / "progress" / "rows"
    progress.mkdir(parents=True, exist_ok=True)
    with Texts(progress / "texts") as texts:
        found, labels_of, sources = _read(data, labels, base, texts, progress, several=several)
        pool = Pool.of(texts, labels_of, spoken=data.train.CONVERSATIONS)
        if found:
            _check_gold(pool, sources)
        splits, thinned, overlaps = _separate(pool, sources, data, progress, labelled=bool(found))
        prompts = splits.pop(UNLABELLED) if _has_prompts(data) else None
        train = np.concatenate([splits["train"], splits.pop(UNLABELLED, np.empty(0, dtype=np.int64))])
        splits["train"] = train[np.argsort(pool.keys[train])]
        for name, rows in splits.items():
            _check_rows(name, rows, thinned.get(name, thinned["train"]), overlaps)
            if found and name in ("train", "test"):
                _check_kinds(name, np.unique(pool.labels[rows]), found, several=several)
            if not found and name.partition(".")[0] in ("test", "validation", "challenge"):
                documents = int((pool.labels[rows] < 0).sum())
                check_searched(name, documents if documents < len(rows) else len(rows) - 1)
        nothing = Thinned(np.empty(0, dtype=np.int64))
        written = {
            name: write(pool, rows, thinned.get(name, nothing), found, name, folder, several=several)
            for name, rows in splits.items()
        }
        asked = None if prompts is None else write(pool, prompts, thinned[UNLABELLED], (), UNLABELLED, folder)
    shutil.rmtree(progress)
    return Corpus(
        labels=found,
        splits=written,
        prompts=asked,
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


def _has_prompts(data: DataOptions) -> bool:
    """Whether the unlabelled texts are prompts that the teacher is to answer."""
    return data.unlabelled is not None and data.unlabelled.unanswered


def _module(source: SourceOptions) -> Any:
    return registry.load("edgedistill.corpus.sources", source.source)


def _read(
    data: DataOptions, labels: tuple[str, ...] | None, base: Path, texts: Texts, progress: Path, *, several: bool
) -> tuple[tuple[str, ...], np.ndarray, dict[str, np.ndarray]]:
    """Append every source's rows to `texts`; return the labels, each row's, and the row numbers of each role."""
    codes: dict[str, np.ndarray] = {}
    names: dict[str, list[Name]] = {}
    sources: dict[str, np.ndarray] = {}
    documents: dict[str, np.ndarray] = {}
    for role, source in _sources(data).items():
        if (role == UNLABELLED or labels == ()) and "label" in type(source).model_fields:
            source = source.model_copy(update={"label": None})
        first, table = len(texts), _module(source).read(source, base, progress / "datasets")
        _check_lists(table, role, several=several)
        codes[role], names[role] = _append(table, texts)
        if source.SEARCHED:
            documents[role] = table["document"].to_numpy()
        sources[role] = np.arange(first, len(texts))
        shutil.rmtree(progress / "datasets", ignore_errors=True)
    found = found_labels(names) if labels is None else labels

    def numbers(role: str) -> np.ndarray:
        if role in documents:
            return rows_to_find(codes[role], names[role], documents[role], f"data.{role}")
        return (sets if several else indices)(
            codes[role], names[role], found, role, numbers_are_indices=labels is not None
        )

    return found, np.concatenate([numbers(role) for role in sources]), sources


def _check_lists(table: Any, role: str, *, several: bool) -> None:
    """Check that a row's label is one where there can be one, and a list of labels where there can be several.

    Raises:
        DataError: it is otherwise; a column of which every value is missing fits both.
    """
    import pyarrow as pa

    labels, listed = table["label"], pa.types.is_list(table["label"].type)
    if listed == several or labels.null_count == len(labels):
        return
    shown = labels.drop_null()[0].as_py()
    if listed:
        raise DataError(
            f"data.{role}: the label column holds {shown!r}; a label is a text or a whole number; "
            "write task.kind: multi_label_classification where a row may have several"
        )
    raise DataError(
        f"data.{role}: the label column holds {shown!r}, not a list of labels; write lists, "
        f"or name what stands between two labels of a row as data.{role}.separator"
    )


def _append(table: Any, texts: Texts) -> tuple[np.ndarray, list[Name]]:
    """Append a source's rows to `texts`; return for each which label it has, and what the labels are called.

    A list of labels is one name, whatever their order.
    """
    numbers: dict[Name, int] = {}
    codes = array("i")
    for batch in table.to_batches(ROWS_AT_ONCE):
        for text, name in zip(batch["text"].to_pylist(), batch["label"].to_pylist(), strict=True):
            texts.append(text)
            name = tuple(sorted(name)) if isinstance(name, list) else name
            codes.append(numbers.setdefault(name, len(numbers)))
    return np.frombuffer(codes, dtype=np.int32), list(numbers)


def _check_gold(pool: Pool, sources: Mapping[str, np.ndarray]) -> None:
    """Check that whatever measures has gold labels."""
    for role, rows in sources.items():
        if role.partition(".")[0] in ("test", "validation", "challenge"):
            missing = np.flatnonzero(pool.labels[rows] < 0)
            if len(missing):
                raise DataError(
                    f"{role} has {len(missing)} rows without a label (the first is row {missing[0] + 1}); "
                    "quality is measured on them: label or remove them"
                )
    needed = [role for role in ("test", "validation") if role not in sources]
    if needed and (pool.labels[sources["train"]] < 0).all():
        raise DataError(
            f"train has no labels, so {' and '.join(needed)} cannot be cut from it and nothing could be measured; "
            f"name labelled files as {' and '.join(f'data.{role}' for role in needed)}"
        )


def _separate(
    pool: Pool, sources: Mapping[str, np.ndarray], data: DataOptions, progress: Path, *, labelled: bool
) -> tuple[dict[str, np.ndarray], dict[str, Thinned], tuple[Overlap, ...]]:
    """Return disjoint splits, what was dropped within each source, and what was taken out between splits.

    Of queries and documents nothing is dropped, as an index of an app would hold them all.
    """
    whole = {role for role, source in _sources(data).items() if source.SEARCHED}
    merged = {role: Thinned(rows) if role in whole else merge_exact(pool, rows) for role, rows in sources.items()}
    keys, rows = len(pool.row_of_key), sum(len(part.rows) for part in merged.values())
    threshold = data.near_duplicate_similarity
    with bar("looking for duplicates", total=keys + 2 * rows, unit="texts") as advance:
        signatures = sign(map(pool.key, range(keys)), progress / "signatures", advance)
        shared = buckets(signatures, threshold)

        def index() -> Index:
            return Index(threshold, signatures, shared, pool.key)

        thinned = {
            role: part if role in whole else thin_near(part, pool, index(), advance) for role, part in merged.items()
        }
        splits = {role: part.rows for role, part in thinned.items()}
        splits |= cut(pool, splits["train"], splits.keys(), data.split, labelled=labelled)
        splits, overlaps = audit(pool, splits, index(), advance, whole)
    if _has_prompts(data):
        splits[UNLABELLED], taken = asked_nowhere_else(pool, splits, threshold, progress)
        overlaps = summed((*overlaps, *taken))
        if not len(splits[UNLABELLED]):
            raise DataError(
                f"no prompt of data.unlabelled is left: {len(sources[UNLABELLED])} there are, and each is a duplicate, "
                "or asked in another split; give other prompts, or leave data.unlabelled out"
            )
    elif UNLABELLED in thinned:
        train, unlabelled = thinned["train"], thinned[UNLABELLED]
        thinned["train"] = Thinned(
            train.rows,
            exact_removed=train.exact_removed + unlabelled.exact_removed,
            near_removed=train.near_removed + unlabelled.near_removed,
            conflicting_removed=train.conflicting_removed,
            empty_removed=train.empty_removed + unlabelled.empty_removed,
        )
    return splits, thinned, overlaps


def _check_rows(split: str, rows: np.ndarray, thinned: Thinned, overlaps: Sequence[Overlap]) -> None:
    """Check that a split is large enough for its purpose.

    Args:
        split: its name.
        rows: what is left.
        thinned: what was removed from the source that it comes from.
        overlaps: what was taken out because it stands in another split.
    """
    fewest = FEWEST_ROWS if split in ("train", "validation", "test") else 1
    if len(rows) < fewest:
        raise DataError(
            f"{split} has {len(rows)} rows left and needs {fewest}; of its source {_told(thinned)}"
            f"{_taken(split, overlaps)}; "
            f"give more rows, a file of its own as data.{split}, or a larger share in data.split"
        )


def _check_kinds(split: str, used: np.ndarray, labels: tuple[str, ...], *, several: bool) -> None:
    """Check that not every labelled row of a split is labelled alike.

    Args:
        split: its name.
        used: the numbers that its rows have; -1 for a missing one.
        labels: class names.
        several: whether a number is a set of labels.
    """
    known = used[used >= 0].tolist()
    if len(known) != 1:
        return
    if not several:
        raise DataError(f"{split} has only the label {labels[known[0]]!r}; it needs rows of at least two labels")
    held = [repr(label) for index, label in enumerate(labels) if known[0] >> index & 1]
    raise DataError(
        f"every row of {split} has the same labels ({', '.join(held) or 'none'}); it needs at least two sets of labels"
    )


def _told(thinned: Thinned) -> str:
    return (
        f"{thinned.exact_removed} exact and {thinned.near_removed} near duplicates, {thinned.conflicting_removed} rows "
        f"with contradicting labels and {thinned.empty_removed} empty texts were removed"
    )


def _taken(split: str, overlaps: Sequence[Overlap]) -> str:
    """Return how many rows of a split also stand in others, as the end of a sentence; empty where none does."""
    found = [f"{each.exact + each.near} in {each.kept_in}" for each in overlaps if each.removed_from == split]
    return f"; of its own rows, those that stand elsewhere too were taken out: {', '.join(found)}" if found else ""


def _rule(threshold: float) -> str:
    number, rows = bands(threshold)
    found = 1 - (1 - threshold**rows) ** number
    return (
        f"Jaccard similarity of character {GRAM}-gram sets of at least {threshold:g}, after NFKC, casefolding and "
        f"collapsing white space; candidates from MinHash ({PERMUTATIONS} permutations, {number} bands of {rows}, "
        f"which find {100 * min(found, 0.9999):.2f} % of the pairs at the threshold), each verified exactly"
    )
