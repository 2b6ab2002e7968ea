"""What a result depends on besides the recipe is said in words that change when it changes."""

import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from edgedistill import provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of three files."""
    (tmp_path / "room" / "deep").mkdir(parents=True)
    (tmp_path / "room" / "one.py").write_text("a = 1\n", encoding="utf-8")
    (tmp_path / "room" / "deep" / "two.py").write_text("b = 2\n", encoding="utf-8")
    (tmp_path / "alone.py").write_text("c = 3\n", encoding="utf-8")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path)
    provenance.code_of.cache_clear()
    yield tmp_path
    provenance.code_of.cache_clear()


def code_of(*rooms: str) -> str:
    provenance.code_of.cache_clear()
    return provenance.code_of(*rooms)


def test_versions_are_the_installed_ones() -> None:
    found = provenance.versions("numpy", "no-such-distribution-anywhere")
    assert found == {
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "no-such-distribution-anywhere": "not installed",
    }


@pytest.mark.parametrize("file", ["room/one.py", "room/deep/two.py", "alone.py"])
def test_a_changed_line_changes_the_code(package: Path, file: str) -> None:
    before = code_of("room", "alone.py")
    assert len(before) == 16
    assert code_of("room", "alone.py") == before
    (package / file).write_text("d = 4\n", encoding="utf-8")
    assert code_of("room", "alone.py") != before


def test_another_name_or_another_file_changes_the_code(package: Path) -> None:
    before = code_of("room")
    (package / "room" / "one.py").rename(package / "room" / "three.py")
    renamed = code_of("room")
    (package / "room" / "four.py").write_text("", encoding="utf-8")
    assert len({before, renamed, code_of("room")}) == 3


def test_other_rooms_and_compiled_files_do_not_count(package: Path) -> None:
    before = code_of("room")
    (package / "alone.py").write_text("other\n", encoding="utf-8")
    (package / "room" / "one.pyc").write_bytes(b"compiled")
    assert code_of("room") == before


def test_a_room_that_does_not_exist_is_a_bug_and_not_an_empty_hash(package: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no_such_room"):
        code_of("room", "no_such_room")


def test_telemetry_is_off_for_every_process_that_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    provenance.disable_telemetry()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_the_host_is_named_as_the_system_names_it() -> None:
    assert provenance.host() == {
        "machine": platform.machine(),
        "operating_system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
    }
