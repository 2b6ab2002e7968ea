"""What every export format must keep, however many are added."""

import json
import re
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import onnx
import pytest
import torch
from tiny_artifact import LABELS, VOCAB, texts, write_tokenizer
from tiny_sentence_encoder import write_sentence_encoder

from edgedistill import registry
from edgedistill.export import parity
from edgedistill.models.classifier import StaticClassifier

FORMATS = "edgedistill.export.formats"
OF_ENCODERS = [
    name for name in registry.names(FORMATS) if "text_generation" not in registry.load(FORMATS, name).Options.TASKS
]
"""The others lay out decoders: tests/test_decoder_build.py."""
METHODS = "edgedistill.quantize.methods"
RUNTIMES = "edgedistill.runtimes"


def runtime_faults(module: Any) -> list[str]:
    """Return what is wrong with what a format says of its runtime."""
    found = []
    if module.RUNTIME not in registry.names(RUNTIMES):
        found.append("a runtime reads it")
    if not isinstance(module.APPROXIMATES, bool) or not callable(module.reader):
        found.append("it says whether its runtime computes or reads something otherwise")
    return found


def faults(name: str, module: Any) -> list[str]:
    """Return what is wrong with the words of a format."""
    found = []
    schemes = {registry.load(METHODS, word).Options.SCHEME for word in registry.names(METHODS)} | {"float32"}
    if get_args(module.Options.model_fields["format"].annotation) != (name,):
        found.append("the file's name is the recipe's word")
    if "float32" not in module.Options.STORES or not schemes >= module.Options.STORES:
        found.append("a format stores the float student, and schemes that some method makes")
    found += runtime_faults(module)
    if "Source:" not in (module.__doc__ or "") or "https://" not in (module.__doc__ or ""):
        found.append("the docstring says where the format is described")
    files = [module.file_for(scheme) for scheme in sorted(module.Options.STORES)]
    inside = [isinstance(file, PurePosixPath) and not file.is_absolute() and ".." not in file.parts for file in files]
    if len(set(files)) < len(files) or not all(inside):
        found.append("each scheme has a file of its own inside the artifact")
    if not module.exporters(module.Options(format=name)):
        found.append("something writes it")
    if json.loads(json.dumps(module.settings(files))) != module.settings(files):
        found.append("what config.json says of the files is plain data")
    return found


@pytest.mark.parametrize("name", OF_ENCODERS)
def test_every_format_keeps_the_contract(name: str) -> None:
    assert not faults(name, registry.load(FORMATS, name))


OF_CLASSIFIERS = [name for name in OF_ENCODERS if "text_classification" in registry.load(FORMATS, name).Options.TASKS]
OF_VECTORS = [name for name in OF_ENCODERS if name not in OF_CLASSIFIERS]


@pytest.mark.parametrize("name", OF_VECTORS)
def test_every_exporter_of_vectors_writes_what_its_runtime_reads(name: str, tmp_path: Path) -> None:
    layout, options = registry.load(FORMATS, name), registry.load(FORMATS, name).Options(format=name)
    if any(find_spec(needed) is None for needed in options.IMPORTS):
        pytest.skip(f"needs {', '.join(options.IMPORTS)}, which are an extra")
    model = write_sentence_encoder(tmp_path)
    relative = layout.file_for("float32")
    for exporter in layout.exporters(options):
        before = {file.name for file in tmp_path.iterdir()}
        layout.write(model, tmp_path / relative, exporter, options, {"edgedistill.licence": "mit"})
        assert {file.name for file in tmp_path.iterdir()} - before == {relative.name}, "no draft is left"
        loaded = registry.load(RUNTIMES, layout.RUNTIME).load(tmp_path, str(relative), threads=1)
        assert loaded.labels == ()
        encoded = loaded.encode(texts(5))
        with torch.no_grad():
            expected = model(*(torch.from_numpy(encoded[key]) for key in ("input_ids", "attention_mask"))).numpy()
        difference = np.abs(loaded.run(encoded) - expected).max() / np.abs(expected).max()
        assert difference < (parity.APPROXIMATED if layout.APPROXIMATES else parity.FLOAT).deployed
        assert model.token_table.weight.detach().numpy().tobytes() in layout.stored_arrays(tmp_path / relative)
        assert layout.reader(tmp_path)("a text")


@pytest.mark.parametrize("name", OF_CLASSIFIERS)
def test_every_exporter_of_a_format_writes_what_its_runtime_reads(name: str, tmp_path: Path) -> None:
    layout, options = registry.load(FORMATS, name), registry.load(FORMATS, name).Options(format=name)
    torch.manual_seed(0)
    model = StaticClassifier(VOCAB, 16, 8, LABELS).eval()
    model.save(tmp_path)
    write_tokenizer(tmp_path)
    relative = layout.file_for("float32")
    for exporter in layout.exporters(options):
        layout.write(model, tmp_path / relative, exporter, options, {"a": "b"})
        loaded = registry.load(RUNTIMES, layout.RUNTIME).load(tmp_path, str(relative), threads=1)
        assert loaded.labels == LABELS
        encoded = loaded.encode(texts(5))
        with torch.no_grad():
            expected = model(*(torch.from_numpy(encoded[key]) for key in ("input_ids", "attention_mask"))).numpy()
        assert np.abs(loaded.run(encoded) - expected).max() < 1e-5
        assert model.embedding.weight.detach().numpy().tobytes() in layout.stored_arrays(tmp_path / relative)
        assert re.fullmatch(r"\d+\.\d+", layout.oldest_runtime(tmp_path / relative))
        assert [file.name for file in (tmp_path / relative).parent.iterdir()] == [relative.name], "no draft is left"


def sound() -> Any:
    return registry.load(FORMATS, "onnx")


def broken(**parts: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(sound()), **parts})


class StoresWhatNobodyMakes(sound().Options):
    STORES = frozenset({"float32", "int3"})


class StoresNoFloats(sound().Options):
    STORES = frozenset({"int8_dynamic"})


@pytest.mark.parametrize(
    "twin",
    [
        broken(RUNTIME="abacus"),
        broken(__doc__="ONNX."),
        broken(file_for=lambda _scheme: PurePosixPath("onnx/model.onnx")),
        broken(file_for=lambda scheme: PurePosixPath(f"../{scheme}.onnx")),
        broken(exporters=lambda _options: ()),
        broken(APPROXIMATES=None),
        broken(settings=lambda files: {"files": tuple(map(str, files))}),
        broken(Options=StoresNoFloats),
    ],
)
def test_the_contract_rejects_a_broken_format(twin: Any) -> None:
    assert len(faults("onnx", twin)) == 1


def test_the_contract_rejects_a_scheme_that_no_method_makes() -> None:
    twin = broken(Options=StoresWhatNobodyMakes, file_for=lambda scheme: PurePosixPath(f"{scheme}.onnx"))
    assert len(faults("onnx", twin)) == 1


@pytest.mark.parametrize(("word", "tried"), [("auto", 2), ("dynamo", 1), ("torchscript", 1)])
def test_the_recipe_may_name_the_exporter(word: Any, tried: int) -> None:
    found = sound().exporters(sound().Options(format="onnx", exporter=word))
    assert len(found) == tried
    assert word in (*found, "auto")


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 21])
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_the_file_speaks_an_operator_set_that_the_runtime_reads(opset: int, exporter: str, tmp_path: Path) -> None:
    model = StaticClassifier(VOCAB, 8, 4, LABELS).eval()
    options = sound().Options(format="onnx", opset=opset)
    file = tmp_path / "onnx" / "model.onnx"
    written, ir_version = sound().write(model, file, exporter, options, {})
    if exporter == "torchscript":
        assert written == opset
    assert ir_version == {17: 8, 18: 8, 19: 9, 20: 9, 21: 10}[written], "no newer one than the operator set asks for"
    stored = onnx.load(file)
    assert (stored.ir_version, stored.opset_import[0].version) == (ir_version, written)
    onnx.checker.check_model(stored, full_check=True)
    assert sound().oldest_runtime(file) == {17: "1.15", 18: "1.15", 19: "1.16", 20: "1.17", 21: "1.18"}[written]
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(LABELS))}), encoding="utf-8")
    loaded = registry.load(RUNTIMES, "onnxruntime").load(tmp_path, "onnx/model.onnx", threads=1)
    assert loaded.run(loaded.encode(texts(2))).shape == (2, len(LABELS))
