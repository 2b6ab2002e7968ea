"""What the README names is there: commands, files, keys, functions; and what is there, it names."""

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from finished_build import ROOT

from edgedistill import errors, pipeline, registry
from edgedistill.cli import INTERRUPTED, main
from edgedistill.recipe import Recipe
from edgedistill.recipe_file import load
from edgedistill.recipe_sections import BudgetOptions
from edgedistill.run import Run

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(after: str, fence: str = "") -> str:
    """Return the first fenced block after some words."""
    return README[README.index(after) :].split(f"```{fence}\n", 1)[1].split("```", 1)[0]


def indented(heading: str) -> list[str]:
    """Return the lines of the first indented block below a heading."""
    below = README[README.index(heading) :].splitlines()[1:]
    first = next(i for i, line in enumerate(below) if line.startswith("    "))
    return [line.strip() for line in below[first : below.index("", first)]]


def output() -> list[str]:
    """Return what the quickstart printed, line by line."""
    below = README[README.index("What the quickstart printed") :].splitlines()[1:]
    end = next(i for i, line in enumerate(below) if line and not line.startswith("    "))
    return [line.strip() for line in below[:end]]


def tree() -> dict[str, str]:
    """Return path -> comment of the file tree in the README."""
    found, folders = {}, []
    for line in block("6. No number without").splitlines():
        parts = re.fullmatch(r"( *)(\S+)(?: +(\S.*))?", line)
        assert parts is not None, line
        indent, name, comment = parts.groups(default="")
        folders = [*folders[: len(indent) // 2], name]
        found["".join(folders)] = comment
    return found


def test_the_tree_names_every_file_of_the_package_and_no_other() -> None:
    package = ROOT / "edgedistill"
    there = {f"edgedistill/{file.relative_to(package).as_posix()}" for file in package.rglob("*.py")}
    there = {name for name in there if not name.endswith("__init__.py")}
    named = {name for name in tree() if name.startswith("edgedistill/") and name.endswith(".py")}
    assert named == there


def test_the_tree_says_of_each_file_and_folder_what_it_is_for() -> None:
    for name, comment in tree().items():
        assert (ROOT / name).exists(), name
        assert comment or name == "edgedistill/", name


def test_every_verb_is_named_and_every_named_verb_exists() -> None:
    lines = indented("## The command line")
    named = {verb for line in lines for verb in re.match(r"edgedistill (\S+)", line)[1].split("|")}  # type: ignore[index]
    assert named == set(main.commands)
    for verb in re.findall(r"`edgedistill ([a-z]+)", README):
        assert verb in main.commands


def test_the_two_commands_are_there_and_can_be_run() -> None:
    for line in indented("## Two commands"):
        script = ROOT / line.split()[0]
        assert script.stat().st_mode & 0o100, script
        assert script.read_text(encoding="utf-8").startswith("#!")


def test_every_path_in_backticks_exists() -> None:
    places = [ROOT, ROOT / "edgedistill"]
    named = re.findall(r"`((?:\w+/)+[\w.]*|\w+\.py)`", README)
    assert "scripts/check" in named
    made_by_running = ("runs/", "artifacts/", "onnx/")
    for name in named:
        if not name.startswith(made_by_running):
            assert any((place / name).exists() for place in places), name


@pytest.mark.parametrize("after", ["The shortest recipe names"])
def test_the_recipe_in_the_readme_is_valid(after: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(block(after, "yaml"), encoding="utf-8")
    assert load(tmp_path / "recipe.yaml").student.kind == "static"


def test_the_sections_of_a_recipe_are_all_told_and_so_are_the_promises() -> None:
    table = README[README.index("| section | says |") :].split("\n\n", 1)[0]
    told = {word for row in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert told == set(Recipe.model_fields)
    (budget,) = (row for row in table.splitlines() if row.startswith("| `budget`"))
    assert set(re.findall(r"`(\w+)`", budget)) - {"budget"} == set(BudgetOptions.model_fields)


def test_every_choice_of_a_registry_is_told() -> None:
    for folder in (
        "corpus.sources",
        "models.students",
        "distill.losses",
        "quantize.methods",
        "export.formats",
        "tasks",
    ):
        for name in registry.names(f"edgedistill.{folder}"):
            assert f"`{name}`" in README, f"{folder}: {name}"


def test_exit_codes_are_the_real_ones() -> None:
    said = dict(re.findall(r"(\d+) ([a-z ]+)[,.]", README[README.index("Exit codes: ") :].splitlines()[0]))
    assert said == {
        "0": "done",
        str(errors.StageError.exit_code): "a stage failed",
        str(errors.RecipeError.exit_code): "the recipe or the call is wrong",
        str(errors.GateError.exit_code): "a budget was missed",
        str(INTERRUPTED): "interrupted",
    }


def test_extras_are_the_real_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    paragraph = next(line for line in README.splitlines() if line.startswith("**Extras.**"))
    assert set(re.findall(r"\[(\w+)\]", paragraph)) == set(project["optional-dependencies"])
    assert "3.11" in project["requires-python"]
    assert "Python 3.11" in README


def advice() -> list[tuple[str, str]]:
    """Return (registry folder, what its files must have) from the section on adding a choice."""
    section = README[README.index("### How to add a") : README.index("## Release notes")]
    parts = re.split(r"`([\w/]+)/<name>\.py`", section)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def _only(module: Any) -> frozenset[str]:
    """Return the tasks that a choice is for, where it is not for encoders."""
    tasks = getattr(getattr(module, "Options", None), "TASKS", frozenset())
    return frozenset() if tasks - {"text_generation"} else tasks


@pytest.mark.parametrize(("folder", "text"), advice(), ids=[folder for folder, _ in advice()])
def test_what_a_new_file_needs_is_what_the_files_have(folder: str, text: str) -> None:
    package = f"edgedistill.{folder.replace('/', '.')}"
    modules = [registry.load(package, name) for name in registry.names(package)]
    module: Any = next(one for one in modules if "text_generation" not in _only(one))
    for name, parameters in re.findall(r"`(\w+)(?:\(([^`]*)\))?`", text):
        if name == "Options":
            assert parameters in [parent.__name__ for parent in module.Options.__mro__]
        elif name.isupper():
            assert hasattr(module, name) or hasattr(module.Options, name), f"{folder}: {name}"
        elif name != "gold":
            has = list(inspect.signature(getattr(module, name)).parameters)
            wanted = [parameter.strip() for parameter in parameters.replace("*, ", "").split(",") if parameter]
            assert has == wanted or not parameters, f"{folder}: {name}"


def test_every_registry_has_its_advice() -> None:
    assert {folder for folder, _ in advice()} >= {
        "distill/losses", "quantize/methods", "export/formats", "targets", "models/students", "teachers",
        "corpus/sources", "runtimes",
    }  # fmt: skip


def test_what_the_quickstart_printed_is_whole() -> None:
    printed = output()
    file = ROOT / "recipes" / "quickstart.yaml"
    names = list(pipeline.stages(load(file), file.parent, Run(ROOT / "no-such-run")))
    began = [line for line in printed if re.fullmatch(r"\[\d+/\d+\] [\w-]+", line)]
    assert began == [f"[{number}/{len(names)}] {name}" for number, name in enumerate(names, 1)]
    assert any(re.match(r"(PASS|INCONCLUSIVE)  The dynamic int8 student is", line) for line in printed)
