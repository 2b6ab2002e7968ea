"""What every quantization method must keep that stores language models in ggml's types, however many are added."""

import json
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from tiny_ggml import config_of, shapes_of

from edgedistill import registry
from edgedistill.quantize.ggml_encoder import TYPES
from edgedistill.quantize.ggml_mixtures import SCHEMES, block_of, decide
from edgedistill.quantize.methods._ggml import GgmlOptions, GgmlType

METHODS = "edgedistill.quantize.methods"
FORMATS = "edgedistill.export.formats"
TASK = "text_generation"
SERVING = [name for name in registry.names(METHODS) if issubclass(registry.load(METHODS, name).Options, GgmlOptions)]
COLUMNS = (256, 288, 48)  # whole blocks of 256, of 32, of neither


def faults(name: str, module: Any) -> list[str]:
    """Return what is wrong with a method, and with the types that it gives to decoders of several widths."""
    found = []
    words, tasks = get_args(module.Options.model_fields["method"].annotation), module.Options.TASKS
    if (*words, module.Options.SCHEME) != (name, name):
        found.append("the file's name is the recipe's word, and the scheme's")
    if "Source: http" not in " ".join((module.__doc__ or "").split()):
        found.append("the docstring says where the method is from")
    if tasks != {TASK}:
        found.append("it serves decoders alone")
    stores = frozenset().union(*(registry.load(FORMATS, word).Options.STORES for word in registry.names(FORMATS)))
    if module.Options.SCHEME not in stores:
        found.append("some format can store the scheme")
    options = module.Options(method=name)
    if json.loads(json.dumps(module.needs(options))) != module.needs(options) or not module.needs(options):
        found.append("what the result depends on is plain data")
    if not options.importance or options.overrides:
        found.append("importance is used and nothing overridden unless a recipe says so")
    return [*found, *_faults_in_mixture(options)]


def _faults_in_mixture(options: Any) -> list[str]:
    if options.SCHEME not in SCHEMES:
        return ["the scheme has a mixture of types"]
    return [fault for columns in COLUMNS for fault in _faults_in_types(options, columns)]


def _faults_in_types(options: Any, columns: int) -> list[str]:
    found = []
    config = config_of(layers=8)
    shapes = shapes_of(config, columns, tied=False)
    choices = decide(config, shapes, options.SCHEME, options.overrides, has_importance=options.importance)
    if choices.keys() != shapes.keys():
        found.append("every tensor has a type")
    for name, choice in choices.items():
        if choice.type not in TYPES or shapes[name][-1] % block_of(choice.type):
            found.append(f"{name} can be stored in its type")
        if (choice.type == choice.wanted) != (not choice.reason):
            found.append(f"{name}: a reason stands where the type is not the wanted one, and only there")
        if len(shapes[name]) == 1 and choice.type != "F32":
            found.append(f"{name} is a vector and stays float")
    return found


def test_every_scheme_is_one_method() -> None:
    assert set(SERVING) == set(SCHEMES)


def test_a_recipe_can_name_each_type_that_can_be_encoded() -> None:
    assert get_args(GgmlType) == TYPES


@pytest.mark.parametrize("name", SERVING)
def test_every_method_keeps_the_contract(name: str) -> None:
    assert not faults(name, registry.load(METHODS, name))


def sound() -> Any:
    return registry.load(METHODS, "q4_k_m")


def broken(**parts: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(sound()), **parts})


class Unknown(sound().Options):
    SCHEME = "q4_k_xl"


class OfAnother(sound().Options):
    SCHEME = "q5_k_m"


class ForEncoders(sound().Options):
    TASKS = frozenset({"text_classification"})


class Deaf(sound().Options):
    importance: bool = False


@pytest.mark.parametrize(
    "twin",
    [
        broken(Options=OfAnother),
        broken(Options=ForEncoders),
        broken(Options=Deaf),
        broken(needs=lambda _options: {"types": (1, 2)}),
        broken(__doc__="Weights as blocks."),
    ],
)
def test_the_contract_rejects_a_broken_method(twin: Any) -> None:
    assert not faults("q4_k_m", sound())
    assert len(faults("q4_k_m", twin)) == 1


def test_the_contract_rejects_a_scheme_that_nothing_is_known_of() -> None:
    found = faults("q4_k_m", broken(Options=Unknown))
    assert {"some format can store the scheme", "the scheme has a mixture of types"} < {*found}


@pytest.mark.parametrize(("broken_rule", "said"), [("Q4_K", "can be stored in its type"), ("Q2_2", "can be stored")])
def test_the_contract_rejects_types_that_rows_do_not_fit(
    broken_rule: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedistill.quantize import ggml_mixtures

    monkeypatch.setattr(
        ggml_mixtures, "_fitting", lambda wanted, _columns: ggml_mixtures.Choice(broken_rule, wanted, "")
    )
    assert any(said in fault for fault in faults("q4_k_m", sound()))


@pytest.mark.parametrize("value", ["q4_k", "int4", "Q4_2"])
def test_an_override_is_one_of_ggmls_types(value: str) -> None:
    assert sound().Options(method="q4_k_m", overrides={"*": "Q4_K"}).overrides == {"*": "Q4_K"}
    with pytest.raises(ValidationError, match="'Q6_K', 'IQ4_NL' or 'IQ4_XS'"):
        sound().Options(method="q4_k_m", overrides={"*": value})
