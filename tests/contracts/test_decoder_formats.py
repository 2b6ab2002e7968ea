"""What every format of language models must keep, however many are added.

That files hold what was decided and compute it is proven where they are written: export/decoder.py, for every file.
"""

import inspect
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from finished_build import ROOT

from edgedistill import registry
from edgedistill.export.decoder_file import FLOAT_STUDENT, Described

FORMATS, METHODS, RUNTIMES = "edgedistill.export.formats", "edgedistill.quantize.methods", "edgedistill.runtimes"
TASK = "text_generation"
OF_DECODERS = [name for name in registry.names(FORMATS) if TASK in registry.load(FORMATS, name).Options.TASKS]
PARAMETERS = {
    "refuses": ["config"],
    "start": ["checkpoint", "working"],
    "load": ["file"],
    "floats": ["checkpoint", "name"],
    "place": ["root", "described"],
    "write": ["place", "started", "checkpoint", "tensors", "described", "options"],
    "differences": ["place", "tensors"],
    "model_files": ["place"],
    "exact_twin": ["place", "working"],
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def described(method: str) -> Described:
    return Described("tiny-speech", "0.1.0", "MIT", method, 53_400, {"teacher_source": "a teacher"})


def faults(name: str, module: Any) -> list[str]:
    """Return what is wrong with a format."""
    found, options = [], module.Options
    schemes = {registry.load(METHODS, word).Options.SCHEME for word in registry.names(METHODS)} | {FLOAT_STUDENT}
    if get_args(options.model_fields["format"].annotation) != (name,):
        found.append("the file's name is the recipe's word")
    if FLOAT_STUDENT not in options.STORES or not schemes >= options.STORES:
        found.append("a format stores the float student, and schemes that some method makes")
    if {TASK} != options.TASKS:
        found.append("it lays out language models alone")
    if (
        module.RUNTIME not in registry.names(RUNTIMES)
        or "decoder" not in registry.load(RUNTIMES, module.RUNTIME).SERVES
    ):
        found.append("a runtime of language models reads it")
    if options.EXTRA not in EXTRAS or not options.IMPORTS:
        found.append("what it needs is an extra of this package")
    if "Source: http" not in " ".join((module.__doc__ or "").split()):
        found.append("the docstring says where the format is described")
    if any(list(inspect.signature(getattr(module, key)).parameters) != wanted for key, wanted in PARAMETERS.items()):
        found.append("its functions are called as those of every other format")
    return [*found, *_faults_of_refusals(module), *_faults_of_places(module)]


def _faults_of_refusals(module: Any) -> list[str]:
    return [] if module.refuses({"model_type": "abacus"}) else ["what it cannot lay out is known before it is trained"]


def _faults_of_places(module: Any) -> list[str]:
    root = Path("artifact")
    places = [module.place(root, described(method)) for method in sorted(module.Options.STORES)]
    apart = module.place(root, described(module.TEACHER))  # in a folder of its own, where it may have any name
    inside = all(place.parent == root and place.name not in ("", "..") for place in [*places, apart])
    files = [file for place in places for file in module.model_files(place)]
    held = all(any(file in (place, place / file.name) for place in places) for file in files)
    if len(set(places)) < len(places) or len(set(files)) < len(files) or not inside or not held:
        return ["each model has a place of its own, right inside the artifact"]
    return []


def sound() -> Any:
    return registry.load(FORMATS, "onnx_genai")


@pytest.mark.parametrize("name", OF_DECODERS)
def test_every_format_keeps_the_contract(name: str) -> None:
    if name == "gguf":
        pytest.importorskip("gguf", reason="names of files are the library's matter")
    assert not faults(name, registry.load(FORMATS, name))


def test_every_method_is_stored_by_exactly_one_format() -> None:
    stored = [
        scheme for name in OF_DECODERS for scheme in registry.load(FORMATS, name).Options.STORES - {FLOAT_STUDENT}
    ]
    serving = [word for word in registry.names(METHODS) if TASK in registry.load(METHODS, word).Options.TASKS]
    assert sorted(stored) == sorted(serving)


class StoresWhatNobodyMakes(sound().Options):
    STORES = frozenset({"float32", "int3"})


class StoresNoFloats(sound().Options):
    STORES = frozenset({"onnx_int4"})


class ForEncoders(sound().Options):
    TASKS = frozenset({"text_classification"})


class OfNoExtra(sound().Options):
    EXTRA = "abacus"


@pytest.mark.parametrize(
    "parts",
    [
        {"Options": StoresWhatNobodyMakes},
        {"Options": StoresNoFloats},
        {"Options": ForEncoders},
        {"Options": OfNoExtra},
        {"RUNTIME": "onnxruntime"},
        {"__doc__": "A folder."},
        {"load": lambda path: {}},
        {"refuses": lambda config: []},
        {"place": lambda root, described: root / "model"},
        {"place": lambda root, described: root.parent / described.method},
        {"model_files": lambda place: [place.parent / "model.onnx"]},
    ],
)
def test_the_contract_rejects_a_broken_format(parts: dict[str, Any]) -> None:
    assert len(faults("onnx_genai", SimpleNamespace(**{**vars(sound()), **parts}))) == 1
