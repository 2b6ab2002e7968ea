"""A recipe may name a GGUF file wherever a model may lie; it is checked early, and unpacked once."""

from pathlib import Path

import pytest
from test_models_resolve import WRITERS, installed, write
from test_surroundings import PATH, RECIPE, pack, problems
from test_surroundings import write as write_surroundings

from edgedistill.errors import ModelError
from edgedistill.files import files_in
from edgedistill.models.resolve import describe, digest, resolve
from edgedistill.recipe_sections import ModelReference

__all__ = ["installed"]  # a fixture


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A tiny causal language model in one file."""
    from tiny_decoders import write_decoder, write_gguf

    folder = tmp_path_factory.mktemp("gguf")
    write_decoder(folder / "a", layers=1)
    return write_gguf(folder / "a", folder / "a.gguf").read_bytes()


GGUF_AT = {
    "path": ({"path": "model", "file": "q8/a.gguf"}, "model/q8/a.gguf"),
    "package": (
        {"package": "tiny-models", "folder": "tiny_models/model", "file": "q8/a.gguf"},
        "tiny_models/model/q8/a.gguf in package tiny-models",
    ),
    **{
        name: ({"archive": name, "folder": "pkg/model", "file": "q8/a.gguf"}, f"pkg/model/q8/a.gguf in {name}")
        for name in ("model.whl", "model.tar.gz")
    },
}


def place_gguf(place: str, files: dict[str, bytes], root: Path) -> None:
    if place in WRITERS:
        WRITERS[place](root / place, {f"pkg/model/{name}": content for name, content in files.items()})
        return
    folder = root / {"path": "model", "package": "site/tiny_models/model"}[place]
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("place", GGUF_AT)
def test_a_gguf_file_becomes_a_checkpoint_in_the_cache(
    place: str, gguf: bytes, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"q8/a.gguf": gguf, "LICENSE": b"terms", "NOTICE.txt": b"thanks", "README.md": b"card"}
    place_gguf(place, files, tmp_path)
    reference, said = ModelReference(**GGUF_AT[place][0]), GGUF_AT[place][1]
    cache = tmp_path / "cache"
    found = resolve(reference, tmp_path, cache)
    assert found.is_relative_to(cache)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in found.iterdir()}
    assert [(found / name).read_bytes() for name in list(files)[1:]] == [b"terms", b"thanks", b"card"]
    assert describe(reference) == said
    monkeypatch.setattr("edgedistill.models.gguf_checkpoint.unpack", lambda *_: pytest.fail("it is there already"))
    assert resolve(reference, tmp_path, cache) == found


@pytest.mark.parametrize("place", GGUF_AT)
def test_the_digest_follows_a_gguf_file_and_unpacks_nothing(place: str, installed: Path, tmp_path: Path) -> None:
    reference = ModelReference(**GGUF_AT[place][0])
    seen = set()
    for files in ({"q8/a.gguf": b"1"}, {"q8/a.gguf": b"2"}, {"q8/a.gguf": b"2", "LICENSE": b"terms"}):
        place_gguf(place, files, tmp_path)
        before = files_in(tmp_path)
        seen.add(digest(reference, tmp_path))
        assert files_in(tmp_path) == before
    assert len(seen) == 3


def test_a_gguf_file_that_is_missing_or_broken_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "model", {"b.gguf": b"GGUF"})
    missing = ModelReference(path="model", file="a.gguf")
    for find in (lambda: resolve(missing, tmp_path, tmp_path / "cache"), lambda: digest(missing, tmp_path)):
        with pytest.raises(ModelError, match=r"model has no file a\.gguf; its GGUF files: b\.gguf"):
            find()
    with pytest.raises(ModelError, match=r"b\.gguf is no sound GGUF file: it ends at byte 4"):
        resolve(ModelReference(path="model", file="b.gguf"), tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("file", ["a.bin", "/etc/a.gguf", "../a.gguf", "a/../../b.gguf", ""])
def test_a_gguf_file_lies_inside_its_place(file: str) -> None:
    with pytest.raises(ValueError, match=r"file names a \.gguf file inside the place"):
        ModelReference(path="model", file=file)


def test_a_hub_is_asked_for_the_gguf_file_and_for_no_other_weights(
    gguf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot_download(_repository: str, *, revision: str, allow_patterns: list[str]) -> str:
        assert revision == "abc"
        assert "a.gguf" in allow_patterns
        assert not [pattern for pattern in allow_patterns if "safetensors" in pattern or "*.gguf" in pattern]
        return str(write(tmp_path / "snapshot", {"a.gguf": gguf}))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    reference = ModelReference(hub="org/name", revision="abc", file="a.gguf")
    assert (resolve(reference, tmp_path, tmp_path / "cache") / "config.json").exists()
    assert describe(reference) == "a.gguf of org/name at abc"


@pytest.mark.parametrize("kind", ["path", "whl", "tar.gz"])
@pytest.mark.parametrize("there", [True, False])
def test_a_gguf_file_is_looked_at_and_not_unpacked(tmp_path: Path, kind: str, there: bool) -> None:
    file = write_surroundings(tmp_path)
    if there:
        (tmp_path / "teacher" / "model.gguf").write_bytes(b"GGUF")
    words = PATH if kind == "path" else pack(tmp_path, kind)
    file.write_text(RECIPE.replace(PATH, words.replace("}", ", file: model.gguf}")), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    found = problems(file)
    assert sorted(tmp_path.rglob("*")) == before
    if kind != "path" and there:  # whether it is sound shows when it is unpacked
        assert found == []
    else:
        said = "is no sound GGUF file" if there else "has no file model.gguf"
        missing = f"model.{kind} has no package/teacher/model.gguf; name one that it has"
        assert found[0].startswith("7: teacher.model.file: ")
        assert (said if kind == "path" else missing) in found[0]
