"""What a data file and a teacher look like, at a glance: enough to write a first recipe for them."""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

from edgedistill.errors import DataError, ModelError
from edgedistill.models import gguf_header
from edgedistill.models.anatomy import layers_of
from edgedistill.models.config_json import is_causal, longest_input, read_config
from edgedistill.models.decoder_parts import family_of, sizes_in
from edgedistill.models.gguf_checkpoint import outline
from edgedistill.models.resolve import resolve
from edgedistill.recipe_sections import ModelReference
from edgedistill.surroundings import head_labels

SOURCES = {".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".txt": "text"}
TEXT_NAMES = ("text", "sentence", "content", "review", "comment", "body", "message", "utterance", "question", "title")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "sentiment", "intent", "topic", "emotion")
MOST_LABELS = 200
GGUF = ".gguf"
LONGEST_REASON = 300  # characters of a library's own words


@dataclass(frozen=True)
class DataGlance:
    """What a file of texts holds."""

    file: Path
    source: str
    delimiter: str | None  # of csv alone
    rows: int
    text: str
    label: str | None  # None where no column looks like labels
    labels: tuple[str, ...]


@dataclass(frozen=True)
class TeacherGlance:
    """What a checkpoint's own files say."""

    model: dict[str, str]  # keys of teacher.model
    labels: tuple[str, ...] | None  # of its own head; None where it has none
    licence: str | None
    max_length: int | None
    layers: int | None = None  # of a causal language model; None for every other
    neurons: int | None = None  # in the feed-forward part of each layer; likewise, and where these can be pruned


@dataclass
class _Column:
    """What was seen of one column so far."""

    name: str
    texts: int = 0
    characters: int = 0
    distinct: set[str] = field(default_factory=set)

    def add(self, value: object) -> None:
        if isinstance(value, str):
            self.texts += 1
            self.characters += len(value)
        if isinstance(value, (str, int)) and len(self.distinct) <= MOST_LABELS:
            self.distinct.add(str(value).lower() if isinstance(value, bool) else str(value))

    def labels_rows(self, rows: int) -> bool:
        """Whether the values look like classes: few, and each of them more than once or twice."""
        return 2 <= len(self.distinct) <= min(MOST_LABELS, max(2, rows // 3))


def at_data(file: Path) -> DataGlance:
    """Read `file` once, row by row.

    Raises:
        DataError: it is of no kind that a recipe can name, cannot be read, or has no column of texts.
    """
    source, columns, rows = source_of(file), dict[str, _Column](), 0
    for rows, row in enumerate(rows_of(file), 1):  # noqa: B007 - the last number is the count
        for name, value in row.items():
            columns.setdefault(name, _Column(name)).add(value)
    text = _text_column(file, columns)
    label = _label_column(columns, text, rows)
    delimiter = delimiter_of(file)
    if label is None:
        return DataGlance(file, source, delimiter, rows, text, None, ())
    return DataGlance(file, source, delimiter, rows, text, label.name, tuple(sorted(label.distinct)))


def at_teacher(reference: str) -> TeacherGlance:
    """Look at a checkpoint directory, a GGUF file, or `org/name@revision` on the hub.

    Raises:
        ModelError: there is no config.json, a directory has no safetensors weights, a GGUF file is not sound, or the
            hub cannot be asked.
    """
    folder = Path(reference)
    if folder.suffix == GGUF and folder.is_file():
        return _at_gguf(folder)
    if folder.is_dir():
        model = {"path": reference}
        resolve(ModelReference(path=reference), Path(), Path())
    else:
        hub, _, revision = reference.partition("@")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", hub):
            raise ModelError(
                f"{reference!r} is neither a directory, a GGUF file nor a hub id; write a path, or org/name@revision"
            )
        folder = _from_hub(hub, revision or None)
        model = {"hub": hub, "revision": folder.name}  # a snapshot's folder is named after its commit
    config = read_config(folder)
    return _glance(model, config, _licence_of(folder / "README.md"))


def _at_gguf(file: Path) -> TeacherGlance:
    with TemporaryDirectory() as temporary:
        config = read_config(outline(file, Path(temporary) / "outline"))
    said = gguf_header.metadata(file).get("general.license")
    return _glance({"path": str(file.parent), "file": file.name}, config, str(said) if said else None)


def _glance(model: dict[str, str], config: dict[str, Any], licence: str | None) -> TeacherGlance:
    longest = longest_input(config)
    if not is_causal(config):
        return TeacherGlance(model, head_labels(config), licence, longest)
    return TeacherGlance(model, None, licence, longest, layers_of(config), _neurons_in(config))


def _neurons_in(config: Mapping[str, Any]) -> int | None:
    """Return how many neurons each layer of a language model has; None where it is of no kind that can be pruned."""
    try:
        family_of(config)
        return sizes_in(config).intermediate_size
    except ModelError:
        return None


def source_of(file: Path) -> str:
    """Return the source that reads a file, by how its name ends.

    Raises:
        DataError: none does.
    """
    source = SOURCES.get(file.suffix.lower())
    if source is None:
        raise DataError(f"{file} ends in none of {', '.join(SOURCES)}; convert it to one of them")
    return source


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, at least one.

    Raises:
        DataError: no source reads it, it cannot be read, or it is empty.
    """
    row = None
    try:
        for row in _rows(file, source_of(file)):
            yield row
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as UTF-8") from error
    if row is None:
        raise DataError(f"{file} holds no rows; give it at least one")


def delimiter_of(file: Path) -> str | None:
    """Return what stands between the cells of a table of text; None for every other file."""
    return _delimiter(file) if source_of(file) == "csv" else None


def _rows(file: Path, source: str) -> Iterator[dict[str, Any]]:
    if source == "parquet":
        yield from _parquet_rows(file)
        return
    with file.open(encoding="utf-8-sig", newline="" if source == "csv" else None) as lines:
        if source == "csv":
            for row in csv.DictReader(lines, delimiter=_delimiter(file)):
                yield {name: value for name, value in row.items() if name is not None}
        elif source == "jsonl":
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _json_row(file, number, line)
        else:
            yield from ({"text": line} for line in lines if line.strip())


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(file).iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as parquet: {error}") from error


def _json_row(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{file}:{number}: not JSON ({error}); write one object per line") from error
    if not isinstance(row, dict):
        raise DataError(f"{file}:{number}: a JSON {type(row).__name__}, not an object; write one object per line")
    return row


def _delimiter(file: Path) -> str:
    """Return what stands between the cells of the first line: a tab, a semicolon, or a comma."""
    with file.open(encoding="utf-8-sig") as lines:
        header = lines.readline()
    return max(",\t;|", key=header.count)


def _text_column(file: Path, columns: dict[str, _Column]) -> str:
    texts = {name: column for name, column in columns.items() if column.texts}
    for name in TEXT_NAMES:
        for given in texts:
            if given.lower() == name:
                return given
    if not texts:
        raise DataError(f"{file} has no column of texts; its columns: {', '.join(columns) or 'none'}")
    return max(texts, key=lambda name: texts[name].characters / texts[name].texts)


def _label_column(columns: dict[str, _Column], text: str, rows: int) -> _Column | None:
    others = [column for name, column in columns.items() if name != text]
    named = [
        column for column in others if column.name.lower() in LABEL_NAMES and 2 <= len(column.distinct) <= MOST_LABELS
    ]
    fitting = named or [column for column in others if column.labels_rows(rows)]
    return min(fitting, key=lambda column: len(column.distinct), default=None)


def _from_hub(repository: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, "config.json", revision=revision)).parent
    except (EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = shorten(str(error), LONGEST_REASON, placeholder=" [cut]")
        raise ModelError(
            f"{repository} cannot be looked up on the hub: {reason}; name a local directory instead"
        ) from error


def _licence_of(card: Path) -> str | None:
    """Return the licence that the front matter of a model card names."""
    if not card.is_file():
        return None
    found = re.search(
        r"\A---\n(?:.*\n)*?licen[cs]e:\s*[\"']?([\w.+-]+)", card.read_text(encoding="utf-8", errors="replace")
    )
    return found[1] if found else None
