"""What every source that is one local file shares: finding it, hashing it, and reading it with `datasets`.

`datasets` decides how a file is parsed; what it raises is turned into one line that names the place, as far as a
second look at the file can tell it.
"""

import glob
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.errors import DataError
from edgedistill.files import sha256_of

if TYPE_CHECKING:
    from datasets import Dataset


def existing(base: Path, file: str) -> Path:
    """Return the file's path; relative names count from `base`, the recipe's folder.

    Raises:
        DataError: there is no such file, or it is empty.
    """
    path = base / file
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"data file {path} {what}; file names count from the recipe's folder, {base}")
    if path.stat().st_size == 0:
        raise DataError(f"data file {path} is empty; give it at least one row")
    return path


def digest_of(base: Path, file: str) -> str:
    """Return the SHA-256 of the file's bytes."""
    return sha256_of(existing(base, file))


def pattern(path: Path) -> str:
    """Return the pattern that matches this one file, as `datasets` wants it: brackets in a name are no wildcards."""
    return glob.escape(str(path))


def load(
    place: str, builder: str, cache: Path, why: Callable[[], str | None] = lambda: None, **given: Any
) -> "Dataset":
    """Return one split of a data set, quietly; whatever `datasets` raises becomes a DataError.

    Args:
        place: where the rows come from, for the error.
        builder: a packaged builder of `datasets` (json, csv, parquet, text), or a hub id.
        cache: folder for the rows as `datasets` keeps them.
        why: called when the rows cannot be read; returns what is wrong if a second look can tell it.
        given: options of that builder.

    Raises:
        DataError: the rows cannot be read, or there are none.
    """
    import datasets

    try:
        with _quiet():
            return datasets.load_dataset(builder, cache_dir=str(cache), **{"split": "train", **given})
    except Exception as error:  # the builders let anything through: pyarrow's, pandas', OSError, StopIteration
        raise DataError(f"{place} cannot be read: {why() or _reason(error)}") from error


def check_utf8(path: Path) -> None:
    """Check that a text file is UTF-8.

    Raises:
        DataError: it is not; the text names the line and the byte.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = f"byte {error.start + 1} of the line (0x{line[error.start]:02x})"
                raise DataError(f"{path}:{number}: {byte} is not UTF-8; save the file as UTF-8") from None


def _reason(error: BaseException) -> str:
    """Return the innermost reason, which `datasets` hides behind 'an error occurred while generating'."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "it holds no rows; give it at least one" if "corresponds to no data" in lines[0] else lines[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the bars and log lines of `datasets`; what went wrong is told by our error alone."""
    import datasets

    verbosity, bars_shown = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars_shown:
            datasets.enable_progress_bars()
