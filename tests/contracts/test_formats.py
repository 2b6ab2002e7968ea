"""What every export format must keep, however many are added."""

from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tiny_artifact import LABELS, VOCAB, texts, write_tokenizer

from edgedistill import registry
from edgedistill.models.classifier import StaticClassifier

FORMATS = "edgedistill.export.formats"
METHODS = "edgedistill.quantize.methods"
RUNTIMES = "edgedistill.runtimes"


def faults(name: str, module: Any) -> list[str]:
    """Return what is wrong with the words of a format."""
    found = []
    schemes = {registry.load(METHODS, word).Options.SCHEME for word in registry.names(METHODS)} | {"float32"}
    if get_args(module.Options.model_fields["format"].annotation) != (name,):
        found.append("the file's name is the recipe's word")
    if "float32" not in module.Options.STORES or not schemes >= module.Options.STORES:
        found.append("a format stores the float student, and schemes that some method makes")
    if module.RUNTIME not in registry.names(RUNTIMES):
        found.append("a runtime reads it")
    if "Source:" not in (module.__doc__ or "") or "https://" not in (module.__doc__ or ""):
        found.append("the docstring says where the format is described")
    files = [module.file_for(scheme) for scheme in sorted(module.Options.STORES)]
    inside = [isinstance(file, PurePosixPath) and not file.is_absolute() and ".." not in file.parts for file in files]
    if len(set(files)) < len(files) or not all(inside):
        found.append("each scheme has a file of its own inside the artifact")
    if not module.exporters(module.Options(format=name)):
        found.append("something writes it")
    return found


@pytest.mark.parametrize("name", registry.names(FORMATS))
def test_every_format_keeps_the_contract(name: str) -> None:
    assert not faults(name, registry.load(FORMATS, name))


@pytest.mark.parametrize("name", registry.names(FORMATS))
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


@pytest.mark.parametrize("opset", [17, 18, 21])
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_the_file_speaks_an_operator_set_that_the_runtime_reads(opset: int, exporter: str, tmp_path: Path) -> None:
    model = StaticClassifier(VOCAB, 8, 4, LABELS).eval()
    options = sound().Options(format="onnx", opset=opset)
    written, ir_version = sound().write(model, tmp_path / "onnx" / "model.onnx", exporter, options, {})
    assert 17 <= written <= 21
    assert ir_version <= 10, "what onnxruntime of the last two years reads"
    if exporter == "torchscript":
        assert written == opset
