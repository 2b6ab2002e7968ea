"""A reader never sees half a file, and a hash changes with whatever it is of."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill import files

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@pytest.mark.parametrize("content", ["ünïcode 😀\nline\n", b"\x00\xff\r\n", "", b""])
def test_a_file_holds_what_was_written_and_no_draft_is_left(tmp_path: Path, content: str | bytes) -> None:
    files.write_atomic(tmp_path / "file", "before")
    files.write_atomic(tmp_path / "file", content)
    expected = content if isinstance(content, bytes) else content.encode("utf-8")
    assert (tmp_path / "file").read_bytes() == expected
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_who_reads_while_a_file_is_written_reads_the_old_one_whole(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "file", "the old content")
    with (tmp_path / "file").open(encoding="utf-8") as reader:
        files.write_atomic(tmp_path / "file", "new")
        assert reader.read() == "the old content"


def test_a_write_that_is_interrupted_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    files.write_atomic(file, "old")

    def killed(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(file, "new")
    assert file.read_text(encoding="utf-8") == "old"


def test_an_unchanged_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    files.write_changed(file, "one")
    first = file.stat()
    files.write_changed(file, b"one")
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (first.st_mtime_ns, first.st_ino)
    files.write_changed(file, "two")
    assert file.read_text(encoding="utf-8") == "two"


def test_hashes_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert files.sha256_of(tmp_path / "file") == known
    assert files.sha256_of_text("abc") == known


def tree(root: Path) -> Path:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "deep").write_text("1", encoding="utf-8")
    (root / "top").write_text("22", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "top").write_text("23", encoding="utf-8"),
        lambda root: (root / "top").rename(root / "renamed"),
        lambda root: (root / "added").write_text("", encoding="utf-8"),
        lambda root: (root / "top").unlink(),
        lambda root: (root / "a" / "b" / "deep").rename(root / "deep"),
    ],
    ids=["changed", "renamed", "added", "removed", "moved"],
)
def test_the_hash_of_a_tree_sees_every_change(tmp_path: Path, change: Callable[[Path], object]) -> None:
    first, second = tree(tmp_path / "first"), tree(tmp_path / "second")
    assert files.sha256_of_tree(first) == files.sha256_of_tree(second), "where it lies does not matter"
    change(second)
    assert files.sha256_of_tree(first) != files.sha256_of_tree(second)


def test_a_tree_is_listed_in_order_and_weighed(tmp_path: Path) -> None:
    root = tree(tmp_path)
    assert [file.relative_to(root).as_posix() for file in files.files_in(root)] == ["a/b/deep", "top"]
    assert files.size_of(root) == 3
    assert files.sha256_of_tree(root, [root / "top"]) != files.sha256_of_tree(root)


@given(VALUES)
def test_canonical_json_is_json(value: object) -> None:
    assert json.loads(files.canonical_json(value)) == value


@given(st.dictionaries(st.text(), VALUES))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert files.canonical_json(backwards) == files.canonical_json(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_canonical_json_has_no_word_for_what_is_not_finite(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.canonical_json(value)


def test_a_cleared_folder_is_there_and_empty(tmp_path: Path) -> None:
    files.clear(tree(tmp_path / "old"))
    files.clear(tmp_path / "new" / "deep")
    assert not list((tmp_path / "old").iterdir())
    assert (tmp_path / "new" / "deep").is_dir()
