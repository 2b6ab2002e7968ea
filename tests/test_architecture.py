"""The shape of the house: small files, one direction of imports, and nothing heavy before there is work to do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "edgedistill"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
MOST_LINES = 400
FORBIDDEN = {
    "utils",
    "util",
    "helpers",
    "common",
    "misc",
    "base",
    "core",
    "config",
    "manager",
    "handler",
    "processor",
    "engine",
}
HEAVY = frozenset({"torch", "transformers", "datasets", "onnx", "onnxruntime", "sklearn", "accelerate", "matplotlib"})
LAYERS = (  # a module imports from its own layer and from those above it in this list
    {"errors", "section", "progress", "yaml_text", "__init__"},
    {"registry", "files", "provenance", "resumable", "sampling"},
    {
        "values",
        "student_values",
        "decoder_values",
        "results",
        "decoder_results",
        "recipe_sections",
        "agreement",
        "decoder_agreement",
        "statistics",
    },
    {"recipe", "run"},
    {"recipe_wording", "recipe_file", "recipe_schema", "recipe_reference", "recipe_examples", "schema_wording"},
    {"tasks", "teachers", "models", "training", "corpus", "runtimes", "targets", "runners"},
    {"distill"},
    {"quantize"},
    {"export"},  # reads how quantize stored the numbers
    {"benchmark"},
    {"report"},
    {"language_model", "generate", "predict", "chat"},
    {"planning", "publish", "doctor", "glance", "starter", "decoder_starter", "surroundings", "decoder_planning"},
    {"stages"},
    {"building"},
    {"encoder_pipeline", "decoder_pipeline"},
    {"pipeline"},
    {"terminal"},
    {"cli"},
    {"__main__"},
)
ORDERS = {"stages", "building", "encoder_pipeline", "decoder_pipeline"}  # those that may call a stage
REGISTRIES = (
    "corpus.sources",
    "distill.losses",
    "export.formats",
    "models.students",
    "quantize.methods",
    "targets",
    "tasks",
    "teachers",
)


def _room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _layer(room: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if room in layer)


def _imported(tree: ast.AST) -> Iterator[list[str]]:
    """Yield what is imported from this package, as parts: room, module, name.

    Imports inside functions count; those for type checkers alone do not.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            yield from _imported(node)
            continue
        yield from (name.split(".")[1:] for name in names if name.startswith("edgedistill."))


def _wrong(room: str, tree: ast.AST) -> list[str]:
    """Return what `room` imports from a later layer, and every stage that it calls without being the pipeline."""
    known = set().union(*LAYERS)
    others = [parts for parts in _imported(tree) if parts[0] != room and parts[0] in known]
    later = [".".join(parts) for parts in others if _layer(parts[0]) > _layer(room)]
    stages = [".".join(parts) for parts in others if "stage" in parts[1:] and room not in ORDERS]
    return later + stages


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_is_read_in_one_sitting(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) < MOST_LINES


def test_no_module_has_a_name_that_says_nothing() -> None:
    words = {word for file in MODULES for word in (file.stem, *file.relative_to(PACKAGE).parent.parts)}
    assert not {word for word in words if word.strip("_") in FORBIDDEN or word.rpartition("_")[2] in FORBIDDEN}


def test_every_room_has_its_layer() -> None:
    assert {_room(file) for file in MODULES} <= set().union(*LAYERS)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    assert not _wrong(_room(file), ast.parse(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("pipeline", "from edgedistill.report.stage import report"),
        ("values", "from edgedistill.recipe import Recipe"),
        ("models", "import edgedistill.pipeline"),
        ("export", "def late():\n    from edgedistill.benchmark.stage import benchmark"),
        ("registry", "from edgedistill import cli"),
        ("report", "from edgedistill.benchmark import stage"),
        ("cli", "from edgedistill.report.stage import report"),
    ],
)
def test_an_import_the_other_way_is_seen(room: str, line: str) -> None:
    assert _wrong(room, ast.parse(line))


def _loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after `code`."""
    ending = "import sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["build", "--help"], ["predict", "--help"], ["chat", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    loaded = _loaded_by(
        f"import sys; sys.argv[1:] = {arguments}\n"
        "from edgedistill.__main__ import start\n"
        "try: start()\n"
        "except SystemExit as end: assert not end.code, end.code"
    )
    assert "click" in loaded
    assert not loaded & {*HEAVY, "pydantic", "numpy", "rich", "yaml"}


def test_every_choice_is_cheap_to_load() -> None:
    loaded = _loaded_by(
        "from edgedistill import registry\n"
        f"for folder in {REGISTRIES}:\n"
        "    package = f'edgedistill.{folder}'\n"
        "    names = registry.names(package)\n"
        "    assert names, f'{package} is empty'\n"
        "    for name in names: registry.load(package, name)"
    )
    assert "pydantic" in loaded
    assert not loaded & HEAVY


def test_a_heavy_import_is_seen() -> None:
    assert _loaded_by("import onnx") & HEAVY
