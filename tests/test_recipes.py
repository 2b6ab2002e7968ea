"""Every recipe that is shipped loads, says what it is for, and reads only what scripts/fetch can bring."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fetching.recipes import RECIPES as FETCHED
from finished_build import ROOT
from tiny_decoders import write_decoder, write_gguf

from edgedistill.cli import main
from edgedistill.errors import RecipeError
from edgedistill.recipe import Recipe
from edgedistill.recipe_file import dump, load

RECIPES = sorted((ROOT / "recipes").rglob("*.y*ml"))
DATA = ROOT / "data"


def paths(value: Any) -> Iterator[str]:
    """Yield every local file or folder that a recipe names."""
    if isinstance(value, dict):
        for key, part in value.items():
            inside = key == "file" and value.get("archive") is not None  # a file of that archive
            if key in ("file", "path", "archive", "queries", "documents") and isinstance(part, str) and not inside:
                yield part
            else:
                yield from paths(part)


def with_its_files(file: Path, folder: Path) -> Path:
    """Return a copy of a recipe that finds what it names: what was fetched, else a stand-in for texts or teacher."""
    recipe = load(file)
    model: Any = recipe.teacher.model  # type: ignore[attr-defined]
    copy = folder / "recipes" / file.name
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    for name in set(paths(recipe.model_dump(mode="json"))):
        place = folder / "recipes" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (file.parent / name).exists():
            place.symlink_to((file.parent / name).resolve())
        elif name == model.archive and model.file is not None:
            write_decoder(folder / "teacher", layers=30)
            with zipfile.ZipFile(place, "w") as archive:
                stored = write_gguf(folder / "teacher", folder / "teacher.gguf", stored_as="Q8_0")
                archive.write(stored, f"{model.folder}/{model.file}")
        else:
            place.write_text("one text\n", encoding="utf-8")
    return copy


def test_there_are_recipes() -> None:
    assert ROOT / "recipes" / "quickstart.yaml" in RECIPES


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_a_recipe_is_valid_and_survives_being_written_out(file: Path, tmp_path: Path) -> None:
    recipe = load(file)
    (tmp_path / "whole.yaml").write_text(dump(recipe), encoding="utf-8")
    assert load(tmp_path / "whole.yaml") == recipe
    assert recipe.name == file.stem
    for options in recipe.export:
        for needed in options.IMPORTS:
            pytest.importorskip(needed, reason=f"{options.format} needs it, and says so; it is in an extra")
    copy = with_its_files(file, tmp_path)
    assert CliRunner().invoke(main, ["validate", str(copy)]).output == f"{copy}: valid\n"


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_a_recipe_says_at_its_top_what_it_shows_how_long_it_takes_and_what_it_printed(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    top = "\n".join(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    assert re.search(r"\b\d+ (minutes|seconds|hours)\b", top)
    assert re.search(r"printed last time:\n(#.*\n)+.*teacher", top)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_a_recipe_reads_what_is_fetched_with_its_hash(file: Path) -> None:
    pinned = {name for package in FETCHED[file.stem] for name in package.SHA256}
    named = list(paths(load(file).model_dump(mode="json")))
    assert named
    for name in named:
        place = (file.parent / name).resolve()
        assert place.is_relative_to(DATA), f"{name} is not in data/"
        assert place.relative_to(DATA).as_posix() in pinned, f"scripts/fetch {file.stem} does not bring {name}"


def test_the_quickstart_is_short() -> None:
    lines = (ROOT / "recipes" / "quickstart.yaml").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) < 40


def test_a_recipe_that_is_wrong_is_seen(tmp_path: Path) -> None:
    text = RECIPES[0].read_text(encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text(text.replace("licence:", "license:", 1), encoding="utf-8")
    with pytest.raises(RecipeError, match="license"):
        load(tmp_path / "wrong.yaml")
    assert isinstance(load(RECIPES[0]), Recipe)
