"""Doctor tells what is missing with the line that mends it, and says ok only of what is."""

from importlib import metadata
from pathlib import Path

import pytest

from edgedistill import doctor
from edgedistill.doctor import Finding, examine


def _named(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_this_installation_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")
    findings = examine(tmp_path)
    assert [finding for finding in findings if finding.good is False] == []
    named = _named(findings)
    for what in ("python", "torch", "onnxruntime", "extra gguf", "processor", "threads", "memory"):
        assert named[what].found


def test_what_is_missing_or_too_old_is_broken_and_has_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = ["numpy>=99", "no-such-library~=1.0", "click>=8", 'no-such-format>=2; extra == "gguf"']
    monkeypatch.setattr(metadata, "requires", lambda _name: declared)
    named = _named(examine(tmp_path))
    assert named["click"].good
    assert named["numpy"].good is False
    assert named["numpy"].cure == "pip install 'numpy>=99'"
    assert named["no-such-library"].good is False
    assert "not installed" in named["no-such-library"].found
    assert "no-such-format" not in named, "an extra is not needed"
    assert named["extra gguf"].good is None
    assert named["extra gguf"].cure == "pip install 'no-such-format>=2'"
    assert named["extra genai"].good, "an extra that asks for nothing lacks nothing"


def test_an_uninstalled_project_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROJECT", "no-such-project")
    assert _named(examine(tmp_path))["no-such-project"].good is False


def test_telemetry_that_is_on_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert _named(examine(tmp_path))["onnxruntime telemetry"].good is False


def test_a_full_disk_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_DISK_BYTES", 10**18)
    assert _named(examine(tmp_path))[f"disk of {tmp_path}"].cure
