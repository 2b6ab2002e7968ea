"""A run: a folder of finished stages, each named after all that it depends on.

    runs/<recipe>/
      run.json            marks the folder as ours
      run.lock            held while a build works here; says who holds it
      stages/<stage>-<fingerprint>/
        needs.json        what the fingerprint was made of, so that a later plan can say why it differs
        took.json         seconds since the stage was last started, so that a later plan can guess
        ...               the stage's files
        SHA256SUMS        of every file, result.json included
        result.json       written last and moved into place: where it is, the stage finished

A stage that was killed has no result.json; it is called again with the same folder, may go on from what it left
under `progress/`, and loses nothing else. `progress/` is removed when the stage ends.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel

from edgedistill.errors import CorruptStage, FolderNotOurs, RunLocked
from edgedistill.files import canonical_json, files_in, read_sums, sha256_of, sha256_of_text, write_atomic
from edgedistill.values import StageValue

V = TypeVar("V", bound=StageValue)
MARK = "run.json"
ONLY_HASHES = (
    "code",
    "recipe_sha256",
    "train_and_validation",
)  # needs that stand for much else, and say nothing of what changed
HASH = re.compile(r"[0-9a-f]{16}|[0-9a-f]{64}")


def fingerprint(stage: str, needs: Mapping[str, object]) -> str:
    """Return 16 hex digits that change when any part of what a stage needs changes."""
    return hashlib.sha256(canonical_json([stage, plain(needs)]).encode()).hexdigest()[:16]


def plain(value: object) -> Any:
    """Return `value` as JSON types; sections and values become their dumps."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(part) for part in value)
    return value


class Run:
    """The stages that this recipe's builds have finished in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def folder_of(self, stage: str, needs: Mapping[str, object]) -> Path:
        """Return where a stage with these needs lives, finished or not."""
        return self.root / "stages" / f"{stage}-{fingerprint(stage, needs)}"

    def finished(self, stage: str, needs: Mapping[str, object]) -> bool:
        """Whether this very stage has been finished before."""
        return (self.folder_of(stage, needs) / "result.json").exists()

    def once(self, stage: str, needs: Mapping[str, object], make: Callable[[Path], V], returns: type[V]) -> V:
        """Return the stage's value, computing it only where this run has not got it yet.

        Raises:
            CorruptStage: the stage is finished, but its files are no longer what it wrote.
        """
        folder = self.folder_of(stage, needs)
        if (folder / "result.json").exists():
            verify(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            write_atomic(folder / "needs.json", json.dumps(plain(needs), indent=2, sort_keys=True) + "\n")
            started = time.monotonic()
            value = make(folder)
            write_atomic(folder / "took.json", json.dumps({"seconds": round(time.monotonic() - started, 3)}) + "\n")
            _finish(folder, value)
        return returns.load(folder)

    def why(self, stage: str, needs: Mapping[str, object]) -> tuple[str, ...]:
        """Return what differs from the newest finished stage of this name, one line each; empty if it never ran.

        What a person can see comes before what only a hash tells: a hash that changed is told where nothing else did.
        """
        others = sorted(self.root.glob(f"stages/{stage}-*/result.json"), key=lambda file: file.stat().st_mtime)
        if not others:
            return ()
        file = others[-1].parent / "needs.json"
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return (f"{file} is damaged, so nobody knows what an earlier one was made from",)
        return tuple(self._telling(_differences(before, plain(needs), ""), needs))

    def _telling(self, differences: Iterator[tuple[str, str]], needs: Mapping[str, object]) -> list[str]:
        seen: list[str] = []
        earlier: list[str] = []
        hashes: list[str] = []
        for key, change in differences:
            stage = key.removeprefix("after.")
            if stage != key:
                earlier.append(self._telling_earlier(stage, plain(needs)["after"].get(stage)) or f"{key}: {change}")
            else:
                (hashes if key in ONLY_HASHES else seen).append(f"{key}: {change}")
        return seen or earlier or hashes

    def _telling_earlier(self, stage: str, wanted: str | None) -> str | None:
        """Return what is another about a stage that runs before; None where it has yet to run."""
        if wanted is None:
            return f"made without {stage}"
        finished = (self.root / "stages" / f"{stage}-{wanted}" / "result.json").exists()
        return f"made from another {stage}" if finished else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock; made sure first that the folder is ours.

        Raises:
            FolderNotOurs: the folder holds files, and no mark of a build.
            RunLocked: another process holds the lock; the text says which.
        """
        self._claim()
        lock, holder = FileLock(self.root / "run.lock", timeout=0), self.root / "run.lock.holder"
        try:
            lock.acquire()
        except Timeout:
            held_by = holder.read_text(encoding="utf-8").strip() if holder.exists() else "another process"
            raise RunLocked(f"{self.root} is being built by {held_by}; wait for it, or name another --out") from None
        try:
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            write_atomic(holder, f"process {os.getpid()} on {socket.gethostname()} since {started}\n")
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()

    def check_ours(self) -> None:
        """Check that this folder is free to be built in: not there, empty, or made by an earlier build.

        Raises:
            FolderNotOurs: it is not.
        """
        if self.root.exists() and not self.root.is_dir():
            raise FolderNotOurs(f"{self.root} is a file; name a folder with --out")
        if not (self.root / MARK).exists() and self.root.exists() and any(self.root.iterdir()):
            raise FolderNotOurs(f"{self.root} is not empty and was not made by edgedistill; name another --out")

    def _claim(self) -> None:
        self.check_ours()
        if not (self.root / MARK).exists():
            try:
                self.root.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError as error:  # a file system that makes no folders, such as /proc
                raise FolderNotOurs(f"{self.root} cannot be made ({error.strerror}); name another --out") from None
            write_atomic(self.root / MARK, '{"made_by": "edgedistill", "layout": 1}\n')


def verify(folder: Path) -> None:
    """Check every file of a finished stage against the hashes that it wrote.

    Raises:
        CorruptStage: a file is missing, added or changed; the text names it.
    """
    cure = f"delete {folder} to make it again"
    sums = folder / "SHA256SUMS"
    if not sums.exists():
        raise CorruptStage(f"{folder} has no SHA256SUMS; {cure}")
    expected = read_sums(sums)
    present = {file.relative_to(folder).as_posix(): file for file in files_in(folder) if file != sums}
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            raise CorruptStage(f"{folder / name} is missing; {cure}")
        if name not in expected:
            raise CorruptStage(f"{folder / name} was added after the stage finished; {cure}")
        if sha256_of(present[name]) != expected[name]:
            raise CorruptStage(f"{folder / name} was changed after the stage finished; {cure}")


def _sweep(folder: Path) -> None:
    """Drop the half-written files of a killed process: our own drafts, and those of safetensors."""
    for pattern in ("*.draft*", ".tmp*"):
        for file in folder.rglob(pattern):
            file.unlink()


def _finish(folder: Path, value: StageValue) -> None:
    """Seal a stage: drop its progress, hash its files, and move result.json into place."""
    shutil.rmtree(folder / "progress", ignore_errors=True)
    text = value.model_dump_json(indent=2) + "\n"
    files = [file for file in files_in(folder) if file.name != "SHA256SUMS"]  # left by a kill at its end
    sums = {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}
    sums["result.json"] = sha256_of_text(text)
    write_atomic(folder / "SHA256SUMS", "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
    write_atomic(folder / "result.json", text)


def _differences(before: Any, after: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield each key that differs, and how; of two hashes, only that they do."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(name), after.get(name), f"{key}.{name}" if key else name)
    elif before != after:
        hashes = all(isinstance(value, str) and HASH.fullmatch(value) for value in (before, after))
        yield key, "changed" if hashes else f"{_short(before)} -> {_short(after)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
