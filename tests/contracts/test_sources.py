"""What every file in corpus/sources keeps, however many are added."""

import csv
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Literal, get_args

import pytest

from edgedistill import registry
from edgedistill.errors import DataError
from edgedistill.section import SourceOptions

SOURCES = "edgedistill.corpus.sources"
ROWS = [
    ("A fine film", "positive"),
    ('He said "no", twice', "negative"),
    ("Größe, 東京 🎬", "positive"),
    ("null", "negative"),
]
Row = tuple[str, str]


def write_jsonl(file: Path, rows: list[Row]) -> None:
    file.write_text("".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in rows), encoding="utf-8")


def write_csv(file: Path, rows: list[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("text", "label"), *rows])


def write_parquet(file: Path, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [t for t, _ in rows], "label": [n for _, n in rows]}), file)


def write_text(file: Path, rows: list[Row]) -> None:
    file.write_text("".join(f"{text}\n" for text, _ in rows), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, list[Row]], None]] = {
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
    "text": write_text,
}
UNLABELLED = {"text"}
OTHER = {"retrieval", "conversations"}  # of other columns: tests/test_retrieval.py, tests/test_conversations.py
REMOTE = {"hub": {"dataset": "org/name", "revision": "a1b2c3"}}


def complaints(module: ModuleType, name: str) -> list[str]:
    """Return what the shape of a source module breaks."""
    found = []
    if get_args(module.Options.model_fields["source"].annotation) != (name,):
        found.append("the file's name is not the recipe's word")
    if not issubclass(module.Options, SourceOptions):
        found.append("Options is not a SourceOptions")
    for function, parameters in (("read", ["options", "base", "cache"]), ("digest", ["options", "base"])):
        if list(inspect.signature(getattr(module, function)).parameters) != parameters:
            found.append(f"{function} does not take {parameters}")
    if not module.__doc__:
        found.append("no word on what it reads")
    return found


@pytest.mark.parametrize("name", registry.names(SOURCES))
def test_every_source_has_the_shape_of_one(name: str) -> None:
    assert complaints(registry.load(SOURCES, name), name) == []


def test_a_module_of_another_shape_is_rejected() -> None:
    class Options(SourceOptions):
        source: Literal["other"]

    broken = SimpleNamespace(
        Options=Options, read=lambda options, base: None, digest=lambda options, base: "", __doc__=""
    )
    assert len(complaints(broken, "mine")) == 3


def test_every_source_is_tested_here() -> None:
    assert set(registry.names(SOURCES)) == WRITERS.keys() | REMOTE.keys() | OTHER


def test_importing_and_hashing_load_no_heavy_library(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows", ROWS)
    code = f"""
import sys
from pathlib import Path
from edgedistill import registry
modules = [registry.load({SOURCES!r}, name) for name in registry.names({SOURCES!r})]
jsonl = registry.load({SOURCES!r}, "jsonl")
assert len(jsonl.digest(jsonl.Options(source="jsonl", file="rows"), Path({str(tmp_path)!r}))) == 64
print(*sorted({{"torch", "datasets", "pandas", "pyarrow", "numpy"}} & sys.modules.keys()))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


@pytest.mark.parametrize("name", WRITERS)
def test_rows_come_back_as_they_were_written(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows [1]*.any"  # a name that would be a pattern
    WRITERS[name](file, ROWS)
    module = registry.load(SOURCES, name)
    table = module.read(module.Options(source=name, file=file.name), tmp_path, tmp_path / "cache")
    assert table.column_names == ["text", "label"]
    assert table["text"].to_pylist() == [text for text, _ in ROWS]
    assert table["label"].to_pylist() == [None if name in UNLABELLED else label for _, label in ROWS]
    assert capfd.readouterr() == ("", ""), "no bars, no log lines"


@pytest.mark.parametrize("name", WRITERS)
def test_the_digest_follows_the_content(name: str, tmp_path: Path) -> None:
    module = registry.load(SOURCES, name)
    digests = []
    for file, rows in (("a", ROWS), ("b", ROWS), ("c", ROWS[:-1])):
        WRITERS[name](tmp_path / file, rows)
        digests.append(module.digest(module.Options(source=name, file=file), tmp_path))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("function", ["read", "digest"])
def test_a_missing_or_empty_file_is_named(name: str, function: str, tmp_path: Path) -> None:
    module = registry.load(SOURCES, name)
    given = (tmp_path, tmp_path / "cache") if function == "read" else (tmp_path,)
    with pytest.raises(DataError, match=r"rows\.any does not exist; .*recipe's folder"):
        getattr(module, function)(module.Options(source=name, file="rows.any"), *given)
    (tmp_path / "rows.any").touch()
    with pytest.raises(DataError, match=r"rows\.any is empty"):
        getattr(module, function)(module.Options(source=name, file="rows.any"), *given)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_without_rows_is_our_error(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "rows", [])
    module = registry.load(SOURCES, name)
    with pytest.raises(DataError, match=r"rows (is empty|cannot be read: it holds no rows)"):
        module.read(module.Options(source=name, file="rows"), tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_read_is_our_error(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.any").write_bytes(b"ok\n\xff\xfe\x00\x01 neither text nor table")
    module = registry.load(SOURCES, name)
    with pytest.raises(DataError, match=r"rows\.any"):
        module.read(module.Options(source=name, file="rows.any"), tmp_path, tmp_path / "cache")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", sorted(WRITERS.keys() - UNLABELLED))
def test_a_missing_column_names_those_that_are_there(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "rows", ROWS)
    module = registry.load(SOURCES, name)
    for key in ("text", "label"):
        with pytest.raises(DataError, match=f"no column 'stars'; its columns: text, label; .* as '{key}'"):
            module.read(module.Options(source=name, file="rows", **{key: "stars"}), tmp_path, tmp_path / "cache")
    table = module.read(module.Options(source=name, file="rows", label=None), tmp_path, tmp_path / "cache")
    assert set(table["label"].to_pylist()) == {None}
