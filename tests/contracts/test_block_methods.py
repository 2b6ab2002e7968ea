"""What every quantization method must keep that stores language models in blocks for onnxruntime."""

import json
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from tiny_ggml import TinyDecoder, some_rows

from edgedistill import registry
from edgedistill.models.block_tensors import BITS
from edgedistill.quantize.importance import importance_of
from edgedistill.quantize.methods._blocks import BlockOptions
from edgedistill.quantize.methods._ggml import GgmlOptions

METHODS, FORMATS = "edgedistill.quantize.methods", "edgedistill.export.formats"
TASK = "text_generation"
SERVING = [name for name in registry.names(METHODS) if TASK in registry.load(METHODS, name).Options.TASKS]
IN_BLOCKS = [name for name in SERVING if issubclass(registry.load(METHODS, name).Options, BlockOptions)]


def faults(name: str, module: Any) -> list[str]:
    """Return what is wrong with a method."""
    found = []
    words = get_args(module.Options.model_fields["method"].annotation)
    if (*words, module.Options.SCHEME) != (name, name):
        found.append("the file's name is the recipe's word, and the scheme's")
    if "Source: http" not in " ".join((module.__doc__ or "").split()):
        found.append("the docstring says where the method is from")
    if {TASK} != module.Options.TASKS:
        found.append("it serves decoders alone")
    stores = frozenset().union(*(registry.load(FORMATS, word).Options.STORES for word in registry.names(FORMATS)))
    if module.Options.SCHEME not in stores:
        found.append("some format can store the scheme")
    options = module.Options(method=words[0])
    if json.loads(json.dumps(module.needs(options))) != module.needs(options):
        found.append("what the result depends on is plain data")
    model = TinyDecoder(64).eval()
    tensors, facts, importance = module.decide(options, model, {}, importance_of(model, some_rows()))
    if {one.name for one in facts} != tensors.keys() or not importance:
        found.append("every tensor is decided and described")
    if not all(one.type == f"{options.WIDTH.upper()}_{options.group_size}" for one in facts if len(one.shape) == 2):
        found.append("every matrix has the width and the blocks that the method is named for")
    return found


def test_every_method_of_decoders_has_a_contract() -> None:
    of_ggml = [name for name in SERVING if issubclass(registry.load(METHODS, name).Options, GgmlOptions)]
    assert sorted(IN_BLOCKS + of_ggml) == sorted(SERVING)
    assert {registry.load(METHODS, name).Options.WIDTH for name in IN_BLOCKS} == {word.lower() for word in BITS}


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_every_method_keeps_the_contract(name: str) -> None:
    assert not faults(name, registry.load(METHODS, name))


def sound() -> Any:
    return registry.load(METHODS, "onnx_int4")


class OfAnother(sound().Options):
    SCHEME = "onnx_int8"


class ForEncoders(sound().Options):
    TASKS = frozenset({"text_classification"})


def half(*given: Any) -> Any:
    tensors, facts, importance = sound().decide(*given)
    return tensors, facts[1:], importance


@pytest.mark.parametrize(
    "parts",
    [
        {"Options": OfAnother},
        {"Options": ForEncoders},
        {"needs": lambda _options: {"types": (1, 2)}},
        {"__doc__": "Weights as blocks."},
        {"decide": half},
        {"decide": lambda options, *rest: sound().decide(options.model_copy(update={"group_size": 16}), *rest)},
    ],
)
def test_the_contract_rejects_a_broken_method(parts: dict[str, Any]) -> None:
    assert len(faults("onnx_int4", SimpleNamespace(**{**vars(sound()), **parts}))) == 1


@pytest.mark.parametrize(
    "settings", [{"group_size": 48}, {"overrides": {"*": "int3"}}, {"gate": {"min_agreement": 0.9}}]
)
def test_a_recipe_cannot_ask_for_what_is_not_there(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        sound().Options(method="onnx_int4", **settings)
