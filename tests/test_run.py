"""A finished stage is never computed again, an unfinished one never counts, and a changed one is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from finished_build import environment

from edgedistill import run as running
from edgedistill.errors import CorruptStage, FolderNotOurs, RunLocked
from edgedistill.run import Run, fingerprint, plain, verify
from edgedistill.section import Section
from edgedistill.values import StageValue

NEEDS = {"options": {"epochs": 3, "rate": 0.1}, "after": {"corpus": "abc"}, "code": "123"}


class Made(StageValue):
    """A value small enough to look through."""

    number: int


class Maker:
    """Makes a stage with two files, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> Made:
        self.calls += 1
        (folder / "progress").mkdir(exist_ok=True)
        (folder / "progress" / "half").write_text("done", encoding="utf-8")
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "file").write_text("content", encoding="utf-8")
        return Made(number=self.calls)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


@pytest.fixture
def folder(run: Run) -> Path:
    """A finished stage."""
    run.once("stage", NEEDS, Maker(), Made)
    return run.folder_of("stage", NEEDS)


def test_a_second_call_computes_nothing_and_says_the_same(run: Run) -> None:
    make = Maker()
    first, second = (Run(run.root).once("stage", NEEDS, make, Made) for _ in range(2))
    assert (first.number, second.number, make.calls) == (1, 1, 1)
    assert second.path(PurePosixPath("deep/file")).read_text(encoding="utf-8") == "content"


def test_a_finished_stage_has_its_result_its_needs_its_time_and_no_progress(run: Run, folder: Path) -> None:
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*")} == {
        "SHA256SUMS", "deep", "deep/file", "needs.json", "result.json", "took.json",
    }  # fmt: skip
    assert json.loads((folder / "needs.json").read_text(encoding="utf-8")) == NEEDS
    assert json.loads((folder / "took.json").read_text(encoding="utf-8"))["seconds"] >= 0
    assert run.finished("stage", NEEDS)
    verify(folder)


def test_the_sums_are_those_of_sha256sum(folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)


def test_the_result_is_the_last_file_that_is_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = running.write_atomic
    monkeypatch.setattr(running, "write_atomic", lambda file, text: (order.append(file.name), real(file, text)))
    run.once("stage", NEEDS, Maker(), Made)
    assert order == ["needs.json", "took.json", "SHA256SUMS", "result.json"]


@pytest.mark.parametrize("killed_at", ["needs.json", "took.json", "SHA256SUMS", "result.json"])
@pytest.mark.parametrize("moved", [False, True], ids=["before the draft is moved", "after"])
def test_a_stage_that_is_killed_anywhere_is_made_again_and_is_sound(
    run: Run, monkeypatch: pytest.MonkeyPatch, killed_at: str, moved: bool
) -> None:
    real = running.write_atomic

    def write(file: Path, text: str) -> None:
        if file.name == killed_at and not moved:
            file.with_name(f"{file.name}.draft").write_text(text[:5], encoding="utf-8")
            (file.parent / "deep").mkdir(exist_ok=True)
            (file.parent / "deep" / ".tmpAbCdEf").write_text("half of a safetensors file", encoding="utf-8")
        else:
            real(file, text)
        if file.name == killed_at:
            raise SystemExit

    make = Maker()
    monkeypatch.setattr(running, "write_atomic", write)
    with pytest.raises(SystemExit):
        run.once("stage", NEEDS, make, Made)
    monkeypatch.setattr(running, "write_atomic", real)
    done = killed_at == "result.json" and moved
    assert run.finished("stage", NEEDS) is done
    before = make.calls
    assert run.once("stage", NEEDS, make, Made).number == make.calls
    assert make.calls == before + (not done)
    folder = run.folder_of("stage", NEEDS)
    verify(folder)
    names = {file.name for file in folder.rglob("*") if file.is_file()}
    assert names == {"SHA256SUMS", "file", "needs.json", "result.json", "took.json"}, "nothing half-written is left"


def test_a_stage_that_fails_is_not_finished_and_keeps_its_progress(run: Run) -> None:
    def fails(folder: Path) -> Made:
        Maker()(folder)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        run.once("stage", NEEDS, fails, Made)
    folder = run.folder_of("stage", NEEDS)
    assert not run.finished("stage", NEEDS)
    assert (folder / "progress" / "half").exists()
    assert run.once("stage", NEEDS, Maker(), Made).number == 1


def changed(name: str, text: str = "another") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (changed("deep/file"), "deep/file was changed after the stage finished"),
        (changed("deep/new"), "deep/new was added after the stage finished"),
        (lambda folder: (folder / "deep" / "file").unlink(), "deep/file is missing"),
        (changed("result.json", '{"number": 7}\n'), "result.json was changed after the stage finished"),
        (changed("needs.json", "{}"), "needs.json was changed"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "has no SHA256SUMS"),
        (changed("SHA256SUMS", ""), "was added after the stage finished"),
    ],
)
def test_what_is_no_longer_what_it_was_is_named_with_the_cure(
    run: Run, folder: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(folder)
    make = Maker()
    with pytest.raises(CorruptStage, match=said) as caught:
        run.once("stage", NEEDS, make, Made)
    assert f"delete {folder} to make it again" in str(caught.value)
    assert make.calls == 0, "nothing is overwritten silently"
    shutil.rmtree(folder)
    assert run.once("stage", NEEDS, make, Made).number == 1


class Options(Section):
    """A section with a set in it."""

    words: frozenset[str] = frozenset({"b", "a"})
    epochs: int = 1


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"epochs": 4, "rate": 0.1}},
        {"options": {"epochs": 3}},
        {"options": {"epochs": 3, "rate": 0.1, "new": None}},
        {"after": {"corpus": "abd"}},
        {"code": "124"},
        {"versions": {"torch": "2"}},
    ],
)
def test_a_fingerprint_sees_every_change(change: dict[str, Any]) -> None:
    assert fingerprint("stage", NEEDS | change) != fingerprint("stage", NEEDS)
    assert fingerprint("other", NEEDS) != fingerprint("stage", NEEDS)
    assert fingerprint("stage", dict(reversed(NEEDS.items()))) == fingerprint("stage", NEEDS)


def test_sections_and_sets_are_plain_and_in_order() -> None:
    said = plain({1: Options(words=frozenset("cab")), "set": {"b", "a"}, "list": (1, [Options(epochs=2)])})
    assert json.loads(json.dumps(said)) == said
    assert said["set"] == ["a", "b"]
    assert (said["1"]["epochs"], said["list"][1][0]["epochs"]) == (1, 2)


def test_why_tells_what_differs_from_the_newest_and_nothing_else(run: Run, folder: Path) -> None:
    assert run.why("stage", NEEDS) == ()
    other = {**NEEDS, "options": {"epochs": 5, "rate": 0.1}, "code": "124", "extra": "x" * 100}
    assert run.why("stage", other) == (
        f'extra: null -> "{"x" * 56}...',
        "options.epochs: 3 -> 5",
    )
    assert run.why("never ran", NEEDS) == ()
    run.once("stage", other, Maker(), Made)
    os.utime(folder / "result.json", (0, 0))
    assert run.why("stage", {**other, "code": "125"}) == ('code: "124" -> "125"',)


@pytest.mark.parametrize("content", [b"", b'{"options": ', b"\xff\xfe", None])
def test_why_says_so_where_nobody_knows_what_an_earlier_one_was_made_from(
    run: Run, folder: Path, content: bytes | None
) -> None:
    other = {**NEEDS, "code": "124"}
    assert run.why("stage", other) == ('code: "123" -> "124"',)
    file = folder / "needs.json"
    file.unlink() if content is None else file.write_bytes(content)
    assert run.why("stage", other) == (f"{file} is damaged, so nobody knows what an earlier one was made from",)


HASHES = [f"{number:016x}" for number in range(9)]
BEFORE = {
    "options": {"rate": 1}, "files": HASHES[0] * 4, "after": {"a": HASHES[1], "b": HASHES[2]}, "code": HASHES[3],
    "recipe_sha256": HASHES[4] * 4,
}  # fmt: skip
NEW_CODE = {"code": HASHES[5], "recipe_sha256": HASHES[6] * 4}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (NEW_CODE | {"options": {"rate": 2}, "after": {"a": HASHES[7], "b": HASHES[2]}}, ("options.rate: 1 -> 2",)),
        (NEW_CODE | {"files": HASHES[7] * 4}, ("files: changed",)),
        (NEW_CODE | {"after": {"a": HASHES[7], "b": HASHES[2]}}, ("after.a: changed",)),
        (NEW_CODE | {"after": {"a": HASHES[7], "b": HASHES[8]}}, ("after.a: changed", "made from another b")),
        (NEW_CODE | {"after": {"b": HASHES[2]}}, ("made without a",)),
        (NEW_CODE, ("code: changed", "recipe_sha256: changed")),
    ],
)
def test_why_tells_of_a_hash_only_where_nothing_else_tells_more(
    run: Run, change: dict[str, Any], told: tuple[str, ...]
) -> None:
    run.once("stage", BEFORE, Maker(), Made)
    finished = run.root / "stages" / f"b-{HASHES[8]}"
    finished.mkdir()
    (finished / "result.json").write_text("{}", encoding="utf-8")
    assert run.why("stage", BEFORE | change) == told


HOLD = """
import sys
from pathlib import Path, PurePosixPath
from edgedistill.run import Run
with Run(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(run: Run) -> Iterator[subprocess.Popen[str]]:
    """Another process that builds in the folder."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    yield held
    held.kill()
    held.communicate()


def test_a_lock_that_another_process_holds_is_told_with_its_number(run: Run, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(RunLocked, match=rf"is being built by process {holder.pid} on .* since \d{{4}}-"), run.locked():
        pytest.fail("two builds in one folder")
    holder.communicate("")  # it ends well
    with run.locked():
        assert f"process {os.getpid()} " in (run.root / "run.lock.holder").read_text(encoding="utf-8")
    assert not (run.root / "run.lock.holder").exists()


def test_the_lock_of_a_dead_process_is_free(run: Run, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (run.root / "run.lock.holder").exists(), "it had no time to tidy up"
    with run.locked():
        pass
    assert not (run.root / "run.lock.holder").exists()


def test_a_lock_is_let_go_when_the_build_fails(run: Run) -> None:
    with pytest.raises(ValueError, match="inside"), run.locked():
        raise ValueError("inside")
    with run.locked():
        pass


def test_a_folder_that_is_not_ours_is_refused_and_left_as_it_was(run: Run) -> None:
    run.root.mkdir()
    (run.root / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(FolderNotOurs, match="is not empty and was not made by edgedistill; name another --out"):
        run.locked().__enter__()
    assert [(file.name, file.read_text(encoding="utf-8")) for file in run.root.iterdir()] == [
        ("thesis.txt", "years of work")
    ]


def test_a_file_in_place_of_the_folder_is_refused(run: Run) -> None:
    run.root.write_text("a file", encoding="utf-8")
    with pytest.raises(FolderNotOurs, match="is a file; name a folder with --out"):
        run.locked().__enter__()
    assert run.root.read_text(encoding="utf-8") == "a file"


def test_an_empty_folder_becomes_ours_and_stays_so(run: Run) -> None:
    run.root.mkdir()
    with run.locked():
        pass
    assert json.loads((run.root / "run.json").read_text(encoding="utf-8"))["made_by"] == "edgedistill"
    with Run(run.root).locked():
        pass
